"""The front of what was tried."""

import numpy as np
import pytest

from pipcook_deploy.report.entries import CandidateEntry, IntervalEntry
from pipcook_deploy.report.pareto import mark_front


def candidate(name, score, size, fmt="tfjs", verdict="in budget"):
    value = None if score is None else IntervalEntry(value=score, low=score, high=score)
    return CandidateEntry(
        id=name, format=fmt, model="m", precision="p", score=value, wire_size=size, verdict=verdict
    )


def front(candidates, **more):
    return {c.id for c in mark_front(candidates, **more) if c.on_front}


def test_what_is_beaten_in_both_is_not_on_the_front():
    rows = [candidate("a", 0.9, 100), candidate("b", 0.8, 50), candidate("c", 0.79, 60)]
    assert front(rows) == {"a", "b"}
    assert [row.id for row in mark_front(rows)] == ["a", "b", "c"]


def test_an_equal_in_one_that_is_better_in_the_other_beats():
    assert front([candidate("a", 0.9, 100), candidate("b", 0.9, 99)]) == {"b"}
    assert front([candidate("a", 0.9, 100), candidate("b", 0.91, 100)]) == {"b"}


def test_equals_are_both_on_it():
    assert front([candidate("a", 0.9, 100), candidate("b", 0.9, 100)]) == {"a", "b"}


def test_formats_do_not_compete():
    assert front([candidate("a", 0.9, 100), candidate("b", 0.8, 200, "onnx")]) == {"a", "b"}


def test_what_failed_or_was_not_measured_neither_beats_nor_counts():
    rows = [
        candidate("a", 0.9, 100),
        candidate("b", None, 10),
        candidate("c", 0.99, None),
        candidate("d", 0.99, 1, verdict="failed"),
    ]
    assert front(rows) == {"a"}


def test_of_an_error_less_is_better():
    rows = [candidate("a", 0.9, 100), candidate("b", 0.8, 90)]
    assert front(rows, higher_is_better=False) == {"b"}


@pytest.mark.parametrize("seed", range(5))
def test_the_front_rises_with_the_size(seed):
    rng = np.random.default_rng(seed)
    rows = [
        candidate(str(i), float(score), int(size))
        for i, (score, size) in enumerate(zip(rng.random(60), rng.integers(1, 50, 60), strict=True))
    ]
    found = sorted((c for c in mark_front(rows) if c.on_front), key=lambda c: c.wire_size)
    scores = [c.score.value for c in found]
    assert scores == sorted(scores) and found
    best = max(row.score.value for row in rows)
    assert scores[-1] == best
