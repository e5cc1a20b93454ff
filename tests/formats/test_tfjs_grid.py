import numpy as np
import pytest

from pipcook_deploy.errors import ConversionError
from pipcook_deploy.formats.tfjs_weights import Storage, Weight, coarser, decode, encode, encode_one

KERNEL = np.random.default_rng(3).laplace(scale=0.1, size=(3, 3, 16, 32)).astype(np.float32)


def restored(value: np.ndarray, levels: int) -> np.ndarray:
    encoded = encode_one(Weight("w", value), Storage("uint8", levels))
    return decode(encoded.spec, encoded.data)


@pytest.mark.parametrize("levels", [2, 3, 4, 15, 16, 63, 64, 200, 256])
def test_no_more_levels_are_used_than_asked_for(levels: int) -> None:
    encoded = encode_one(Weight("w", KERNEL), Storage("uint8", levels))
    numbers = np.frombuffer(encoded.data, np.uint8)
    assert len(numbers) == KERNEL.size and numbers.max() < levels
    assert len(np.unique(decode(encoded.spec, encoded.data))) <= levels


@pytest.mark.parametrize("levels", [3, 4, 16, 100, 256])
@pytest.mark.parametrize("shift", [0.0, 0.07, -0.31])
def test_pruned_weights_stay_zero_and_have_one_number(levels: int, shift: float) -> None:
    value = KERNEL + np.float32(shift)
    value[np.abs(value) < 0.15] = 0
    encoded = encode_one(Weight("w", value), Storage("uint8", levels))
    back, numbers = decode(encoded.spec, encoded.data), np.frombuffer(encoded.data, np.uint8)
    assert (back[value == 0] == 0).all()
    assert len(set(numbers[value.ravel() == 0])) == 1


def test_few_levels_cut_the_largest_weights_off_and_err_less() -> None:
    for levels in (4, 8, 16, 32):
        low, high = KERNEL.min(), KERNEL.max()
        step = (high - low) / (levels - 1)
        plain = np.rint(KERNEL / step) * step
        error, of_plain = (np.square(x - KERNEL).mean() for x in (restored(KERNEL, levels), plain))
        assert error < 0.9 * of_plain


def test_more_levels_err_less() -> None:
    errors = [np.square(restored(KERNEL, n) - KERNEL).mean() for n in (3, 5, 9, 17, 33, 65, 256)]
    assert errors == sorted(errors, reverse=True)


def test_centroids_on_a_grid_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    used = np.array([-5, -2, 0, 1, 2, 3, 7])  # a grid of 13 places, not all of which are used
    value = (rng.choice(used, size=(64, 32)) * 0.03125).astype(np.float32)
    np.testing.assert_array_equal(restored(value, 16), value)


@pytest.mark.parametrize(
    "value", [np.zeros((2, 2)), np.full((3,), -0.5), np.zeros((0, 4)), np.array([[1e-45, 0]])]
)
def test_weights_without_a_range_come_back(value: np.ndarray) -> None:
    np.testing.assert_allclose(restored(value.astype(np.float32), 4), value, atol=1e-44)


def test_quantized_weights_come_last_in_the_stream() -> None:
    weights = [Weight("a", KERNEL), Weight("b", KERNEL[0, 0, 0]), Weight("c", KERNEL)]
    specs, data = encode(weights, lambda n: Storage("float32" if n == "b" else "uint8", 16))
    assert [spec["name"] for spec in specs] == ["b", "a", "c"]
    assert len(data) == 2 * KERNEL.size + 4 * 32


def test_levels_out_of_range_are_refused() -> None:
    for levels in (1, 257):
        with pytest.raises(ConversionError, match="2 to 256 levels"):
            restored(KERNEL, levels)


def test_what_is_stored_coarsely_is_kept_unless_it_would_shrink() -> None:
    plain, half, byte = (
        encode_one(Weight("w", KERNEL), p).spec for p in ("float32", "float16", "uint8")
    )
    assert coarser(plain, Storage("float16")) and coarser(half, Storage("uint8"))
    assert not coarser(plain, Storage("float32")) and not coarser(half, Storage("float32"))
    assert not coarser(byte, Storage("float16")) and not coarser(half, Storage("uint16"))
    assert not coarser(byte, Storage("uint8")) and coarser(byte, Storage("uint8", 16))
    assert not coarser(encode_one(Weight("i", np.arange(3))).spec, Storage("uint8"))
