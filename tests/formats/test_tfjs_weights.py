import numpy as np
import pytest

from pipcook_deploy.errors import ConversionError, SourceError
from pipcook_deploy.formats.tfjs_weights import PRECISIONS, Weight, decode, encode_one


def restored(value: np.ndarray, precision: str = "float32") -> np.ndarray:
    encoded = encode_one(Weight("w", value), precision)
    return decode(encoded.spec, encoded.data)


@pytest.mark.parametrize(
    "value",
    [
        np.linspace(-1, 2, 24, dtype=np.float32).reshape(2, 3, 4),
        np.array(3, np.int32),
        np.array([True, False]),
        np.array([1 + 2j], np.complex64),
        np.array(["a", "grün", ""], dtype=object),
        np.zeros((0, 3), np.float32),
    ],
)
def test_float32_and_other_types_come_back_as_they_were(value: np.ndarray) -> None:
    back = restored(value)
    if value.dtype == object:
        assert [text.decode() for text in back] == list(value)
    else:
        assert back.dtype == value.dtype and back.shape == value.shape
        np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize(("precision", "levels"), [("uint8", 255), ("uint16", 65535)])
@pytest.mark.parametrize("offset", [0.0, 5.0, -5.0])
def test_affine_error_is_within_a_step_and_zero_is_exact(
    precision: str, levels: int, offset: float
) -> None:
    value = np.random.default_rng(1).uniform(-1, 2, 999).astype(np.float32) + np.float32(offset)
    value[0] = 0 if offset == 0 else value[0]
    back = restored(value, precision)
    assert np.abs(back - value).max() <= np.ptp(value) / levels * 1.01
    if offset == 0:
        assert back[0] == 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_constant_tensors_are_exact(precision: str) -> None:
    np.testing.assert_array_equal(restored(np.full(5, 0.75, np.float32), precision), 0.75)


def test_wide_types_become_what_tfjs_has_or_are_refused() -> None:
    assert restored(np.array([2**31 - 1])).dtype == np.int32
    with pytest.raises(ConversionError, match="beyond int32"):
        restored(np.array([2**31]))
    with pytest.raises(ConversionError, match="beyond float16"):
        restored(np.array([1e6], np.float32), "float16")
    with pytest.raises(ConversionError, match="NaN"):
        restored(np.array([np.nan], np.float32), "uint8")
    assert np.isnan(restored(np.array([np.nan], np.float32)))


@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [
        ("float64", None),
        ("bool", {"dtype": "uint8", "scale": 1, "min": 0}),
        ("float32", {"dtype": "uint4", "scale": 1, "min": 0}),
        ("float32", {"dtype": "uint8", "min": 0}),
        ("float32", "uint8"),
    ],
)
def test_what_tfjs_cannot_decode_is_refused(dtype: str, quantization: object) -> None:
    spec = {"name": "w", "shape": [1], "dtype": dtype}
    with pytest.raises(SourceError, match="'w'"):
        decode(spec | ({"quantization": quantization} if quantization else {}), b"\0" * 8)
