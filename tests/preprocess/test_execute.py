"""Pipelines: order, arithmetic, text, and what does not fit."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.execute import prepare, prepare_batch
from pipcook_deploy.preprocess.operations import Operation

OPERATIONS = TypeAdapter(tuple[Operation, ...])


def run(value, *operations):
    return prepare(OPERATIONS.validate_python(operations), value)


PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_scale_rounds_once_to_float32():
    result = run(PIXELS, {"op": "scale", "factor": 1 / 127.5, "offset": -1.0})
    assert result.dtype == np.float32
    expected = [np.float32(float(x) * (1 / 127.5) - 1.0) for x in range(24)]
    assert result.ravel().tolist() == expected


def test_normalize_per_channel_and_for_all():
    result = run(PIXELS, {"op": "normalize", "mean": [1, 2, 3], "std": [2, 4, 8]})
    assert result[1, 0].tolist() == [(12 - 1) / 2, (13 - 2) / 4, (14 - 3) / 8]
    assert run([4.0, 6.0], {"op": "normalize", "mean": [2], "std": [2]}).tolist() == [1.0, 2.0]


def test_normalize_per_image():
    whole = run(PIXELS, {"op": "normalize_per_image"})
    np.testing.assert_allclose(whole, (PIXELS - 11.5) / PIXELS.std(), rtol=1e-6)
    each = run(PIXELS, {"op": "normalize_per_image", "per_channel": True})
    np.testing.assert_allclose(each.mean((0, 1)), 0, atol=1e-6)
    rounded = run(PIXELS, {"op": "normalize_per_image", "rounded": True})
    np.testing.assert_array_equal(rounded, ((PIXELS - 12.0) / 7.0).astype(np.float32))
    assert np.isfinite(run(PIXELS * 0, {"op": "normalize_per_image"})).all()


def test_color_and_layout():
    assert run(PIXELS, {"op": "color", "to": "bgr"})[0, 0].tolist() == [2, 1, 0]
    assert run(PIXELS, {"op": "color", "to": "grey"}).shape == (2, 4, 1)
    assert run(PIXELS, {"op": "layout", "to": "chw"})[2].tolist() == PIXELS[..., 2].tolist()
    assert run(PIXELS, {"op": "layout", "to": "flat"}).tolist() == list(range(24))


def test_center_crop():
    assert run(PIXELS, {"op": "center_crop", "height": 1, "width": 2}).tolist() == (
        PIXELS[:1, 1:3].tolist()
    )
    with pytest.raises(PreprocessingError, match="3x3"):
        run(PIXELS, {"op": "center_crop", "height": 3, "width": 3})


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint8", [0.5, 254.5, 300, -3, float("nan")], [1, 255, 255, 0, 0]),
        ("int8", [-0.5, 127.4, 128, -200.0], [0, 127, 127, -128]),
        ("int64", [1e300, -1e300, 2.0**62, 9007199254740993], [2**63 - 1, -(2**63), 2**62, 2**53]),
        ("int32", [2147483647.5, -2147483649.0, float("-inf")], [2**31 - 1, -(2**31), -(2**31)]),
    ],
)
def test_cast(dtype, values, expected):
    result = run(values, {"op": "cast", "dtype": dtype})
    assert result.dtype == np.dtype(dtype)
    assert result.tolist() == expected


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, "Hello, WORLD_1 again", [2, 3, 1]),
        ({"split": "whitespace"}, "hello,  world_1\u3000hello", [1, 3, 2]),
        ({"split": "char", "vocabulary": ["h", "i"]}, "Hi!", [2, 3, 1]),
        ({"unknown_id": None, "first_id": 0}, "again hello", [0]),
        ({"lower": False}, "Hello hello", [1, 2]),
        ({}, "", []),
    ],
)
def test_tokenize(options, text, expected):
    operation = {"op": "tokenize", "vocabulary": ["hello", "world_1", "hello"]} | options
    assert run(text, operation).tolist() == expected


def test_pad():
    tokenize = {"op": "tokenize", "vocabulary": ["a", "b", "c"]}
    assert run("a b", tokenize, {"op": "pad", "length": 4}).tolist() == [2, 3, 0, 0]
    short = {"op": "pad", "length": 2, "cut": "start", "side": "start", "value": 9}
    assert run("a b c", tokenize, short).tolist() == [3, 4]
    assert run("a", tokenize, short).tolist() == [9, 2]


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "scale"}, {"op": "decode"}],
        [{"op": "decode"}, {"op": "decode"}],
        [{"op": "decode"}, {"op": "tokenize", "vocabulary": []}],
        [
            {"op": "decode"},
            {"op": "layout", "to": "chw"},
            {"op": "resize", "height": 2, "width": 2},
        ],
        [{"op": "tokenize", "vocabulary": []}, {"op": "scale"}],
        [{"op": "pad", "length": 3}, {"op": "pad", "length": 3}],
    ],
)
def test_operations_out_of_order_are_refused(operations):
    with pytest.raises(PreprocessingError, match="operation"):
        run(b"", *operations)


@pytest.mark.parametrize(
    ("value", "operations"),
    [
        ("text", [{"op": "decode"}]),
        (b"bytes", [{"op": "tokenize", "vocabulary": []}]),
        ([[1, 2], [3]], [{"op": "scale"}]),
        (["NaN", 1], [{"op": "scale"}]),
        ([None, 1.0], [{"op": "scale"}]),
        ([True, False], [{"op": "scale"}]),
        ([2**70], [{"op": "scale"}]),
        ({"a": 1}, [{"op": "scale"}]),
        ("text", [{"op": "scale"}]),
        (np.zeros((4, 4), np.uint8), [{"op": "resize", "height": 2, "width": 2}]),
        (PIXELS, [{"op": "normalize", "mean": [1, 2], "std": [1]}]),
        (PIXELS.astype(np.float32), [{"op": "color", "to": "grey"}]),
    ],
)
def test_values_that_do_not_fit_are_refused(value, operations):
    with pytest.raises(PreprocessingError):
        run(value, *operations)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "normalize", "mean": [0], "std": [0]},
        {"op": "normalize", "mean": [], "std": [1]},
        {"op": "scale", "factor": float("nan")},
        {"op": "rotate"},
    ],
)
def test_declarations_that_mean_nothing_are_refused(operation):
    with pytest.raises(ValidationError):
        OPERATIONS.validate_python([operation])


def test_batch():
    scale = OPERATIONS.validate_python([{"op": "scale"}])
    assert prepare_batch(scale, [[1, 2], [3, 4]]).shape == (2, 2)
    with pytest.raises(PreprocessingError, match="shapes"):
        prepare_batch(scale, [[1, 2], [3]])
