"""Operations on images in integer or elementwise float64 arithmetic; formulas in docs/preprocessing.md."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.operations import (
    Cast,
    CenterCrop,
    Color,
    Layout,
    Normalize,
    NormalizePerImage,
    Scale,
)

Array = NDArray[Any]


def grey(image: Array) -> Array:
    """uint8 [H, W, 3] -> [H, W, 1] by (19595 R + 38470 G + 7471 B + 32768) >> 16."""
    red, green, blue = (image[..., c].astype(np.int64) for c in range(3))
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return luma.astype(np.uint8)[..., np.newaxis]


def composite(rgba: Array, background: int) -> Array:
    """uint8 [H, W, 4] over a grey level: (c*a + b*(255-a) + 127) // 255."""
    colour, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    return ((colour * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)


def color(operation: Color, image: Array) -> Array:
    """Channels of a uint8 image; one channel is copied to three where three are asked for."""
    if image.dtype != np.uint8:
        raise PreprocessingError(f"color takes a uint8 image, not {image.dtype}")
    channels = image.shape[2]
    if channels not in (1, 3):
        raise PreprocessingError(f"color takes 1 or 3 channels, not {channels}")
    if operation.to == "grey":
        return image if channels == 1 else grey(image)
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    return image[..., ::-1] if operation.to == "bgr" else image


def center_crop(operation: CenterCrop, image: Array) -> Array:
    """The central part; an image smaller than it is an error, never padded."""
    height, width = image.shape[:2]
    if height < operation.height or width < operation.width:
        raise PreprocessingError(
            f"center_crop to {operation.height}x{operation.width} of an image of {height}x{width}",
            "resize before cropping, or send a larger image",
        )
    top, left = (height - operation.height) // 2, (width - operation.width) // 2
    return image[top : top + operation.height, left : left + operation.width]


def scale(operation: Scale, values: Array) -> Array:
    """float32(x * factor + offset): one rounding of the product, one of the sum, one to float32."""
    return as_float32(values.astype(np.float64) * operation.factor + operation.offset)


def normalize(operation: Normalize, values: Array) -> Array:
    """float32((x - mean) / std) over the last axis."""
    channels = values.shape[-1] if values.ndim else 1
    for name, numbers in (("mean", operation.mean), ("std", operation.std)):
        if len(numbers) not in (1, channels):
            raise PreprocessingError(
                f"normalize has {len(numbers)} values in {name} for {channels} channels"
            )
    mean, std = (np.asarray(numbers, np.float64) for numbers in (operation.mean, operation.std))
    if values.ndim == 0:
        mean, std = mean[0], std[0]
    return as_float32((values.astype(np.float64) - mean) / std)


def normalize_per_image(operation: NormalizePerImage, image: Array) -> Array:
    """float32((x - m) / max(s, epsilon)); cumulative sums because they add strictly in order."""
    rows = image.reshape(-1, image.shape[2] if operation.per_channel else 1).astype(np.float64)
    mean = np.cumsum(rows, axis=0)[-1] / len(rows)
    centred = rows - mean
    std = np.sqrt(np.cumsum(centred * centred, axis=0)[-1] / len(rows))
    if operation.rounded:
        mean, std = np.floor(mean + 0.5), np.floor(std + 0.5)
    return as_float32((rows - mean) / np.maximum(std, operation.epsilon)).reshape(image.shape)


def layout(operation: Layout, image: Array) -> Array:
    """HWC to the order that the model takes."""
    if operation.to == "chw":
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    return image.reshape(-1) if operation.to == "flat" else image


def cast(operation: Cast, values: Array) -> Array:
    """To another type; floats to integers by floor(x + 0.5), NaN to 0, then clamped."""
    dtype = np.dtype(operation.dtype)
    if dtype.kind == "f":
        return as_float32(values)
    if values.dtype.kind == "f":
        return _round_to_int64(values.astype(np.float64), dtype)
    limits = np.iinfo(dtype)
    return np.clip(values.astype(np.int64), limits.min, limits.max).astype(dtype)


def as_float32(values: Array) -> Array:
    """Rounded to float32, ties to even; too large becomes infinite, as in JavaScript's Math.fround."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _round_to_int64(values: Array, dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    rounded = np.floor(np.where(np.isnan(values), 0.0, values) + 0.5)
    # float64 has no 2**63 - 1: what is too large is told apart before the conversion.
    high, low = rounded >= float(limits.max), rounded <= float(limits.min)
    whole = np.where(high | low, 0.0, rounded).astype(np.int64)
    whole[high] = limits.max
    whole[low] = limits.min
    return whole.astype(dtype)
