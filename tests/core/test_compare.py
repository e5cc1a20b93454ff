import numpy as np
import pytest

from pipcook_deploy.compare import Tolerance, compare_outputs, tolerance_for, top1_accuracy

SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)


def _one(actual, tolerance=None, expected=SCORES):
    (row,) = compare_outputs({"y": expected}, {"y": actual}, tolerance or Tolerance())
    return row


def test_equal_outputs_pass_with_no_difference():
    row = _one(SCORES.copy())
    assert (row.passed, row.max_abs, row.agreement) == (True, 0.0, 1.0)


def test_outputs_are_paired_by_name_not_by_place():
    a, b = np.zeros((2, 3)), np.ones((2, 3))
    rows = compare_outputs({"a": a, "b": b}, {"b": b, "a": a}, Tolerance())
    assert all(row.passed for row in rows)
    swapped = compare_outputs({"a": a, "b": b}, {"a": b, "b": a}, Tolerance())
    assert not any(row.passed for row in swapped)


def test_a_difference_names_its_sample():
    actual = SCORES.copy()
    actual[1, 2] += 0.01
    row = _one(actual)
    assert not row.passed
    assert row.worst_sample == 1
    assert row.max_abs == pytest.approx(0.01, rel=1e-3)


def test_a_missing_output_fails_and_says_what_was_found():
    (row,) = compare_outputs({"y": SCORES}, {"z": SCORES}, Tolerance())
    assert not row.passed
    assert "'y' is missing (found: z)" in row.reason


def test_another_shape_fails():
    assert "shape [3, 2]" in _one(SCORES.T).reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_in_the_artifact_fails(bad):
    actual = SCORES.copy()
    actual[1, 0] = bad
    row = _one(actual, Tolerance(agreement=0.0))
    assert not row.passed
    assert "sample 1" in row.reason


def test_nan_that_the_source_has_too_is_equal():
    source = SCORES.copy()
    source[0, 0] = np.nan
    assert _one(source.copy(), expected=source).passed


def test_a_nan_that_the_artifact_lost_fails():
    source = SCORES.copy()
    source[0, 0] = np.nan
    assert not _one(SCORES, expected=source).passed


def test_a_lossy_artifact_is_judged_by_agreement():
    flipped = SCORES[:, ::-1].copy()
    assert not _one(flipped, tolerance_for("uint8")).passed
    moved = SCORES * 0.5
    assert _one(moved, tolerance_for("uint8")).passed


def test_a_lossy_scalar_output_is_judged_by_its_rms():
    source = np.array([[1.0], [2.0]])
    assert _one(source * 1.05, tolerance_for("uint8"), source).passed
    assert not _one(source * 1.5, tolerance_for("uint8"), source).passed


def test_integers_near_the_limit_do_not_wrap():
    source = np.array([[0, 255]], dtype=np.uint8)
    assert not _one(np.array([[255, 0]], dtype=np.uint8), expected=source).passed


def test_texts_are_compared_as_texts():
    source = np.array(["a", "b"], dtype=object)
    assert _one(np.array([b"a", b"b"], dtype=object), expected=source).passed
    assert "element 1" in _one(np.array(["a", "c"], dtype=object), expected=source).reason


def test_accuracy_counts_winners():
    assert top1_accuracy(SCORES, [0, 1]) == 0.5
