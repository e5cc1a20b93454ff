"""Resizing of images: weights along each axis, applied to the width, then to the height."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.preprocess import area_bilinear, taps
from pipcook_deploy.preprocess.operations import Resize
from pipcook_deploy.preprocess.pixels import as_float32
from pipcook_deploy.preprocess.taps import Taps, Window

Array = NDArray[Any]


def resize(operation: Resize, image: Array) -> Array:
    """[H, W, C] uint8 or float32 -> [height, width, C] uint8 (`round`) or float32."""
    if operation.method == "area_bilinear":
        result = area_bilinear.resize(image, operation.height, operation.width)
        return result if operation.round else as_float32(result)
    rows, columns = windows(operation, image.shape[0], image.shape[1])
    if operation.method == "nearest":
        corners = operation.corners
        result = image[:, taps.nearest(columns, corners)][taps.nearest(rows, corners)]
    else:
        across = weights(operation, columns)
        wide = taps.by_rows(
            image,
            operation.width,
            lambda block: _weigh(block.transpose(1, 0, 2), across).transpose(1, 0, 2),
        )
        result = _weigh(wide, weights(operation, rows))
    return to_uint8(result) if operation.round else as_float32(result)


def windows(operation: Resize, height: int, width: int) -> tuple[Window, Window]:
    """What is kept of each axis. `cover` never computes the pixels that the crop throws away."""
    targets = [operation.height, operation.width]
    full = list(targets)
    if operation.fit == "cover":
        factor = max(operation.height / height, operation.width / width)
        full = [
            max(target, int(np.floor(size * factor + 0.5)))
            for target, size in zip(targets, (height, width), strict=True)
        ]
    rows, columns = (
        Window(size, whole, (whole - target) // 2, target)
        for size, whole, target in zip((height, width), full, targets, strict=True)
    )
    return rows, columns


def weights(operation: Resize, window: Window) -> Taps:
    """Taps of one axis. Bilinear without antialias needs no division by the sum: it is 1."""
    if operation.antialias or (operation.method, operation.corners) == ("bicubic", "half_pixel"):
        return taps.spread(window, operation.method, operation.antialias)
    if operation.method == "bicubic":
        return taps.bicubic(window, operation.corners)
    return taps.bilinear(window, operation.corners)


def to_uint8(values: Array) -> Array:
    """floor(x + 0.5) clamped to [0, 255]."""
    if values.dtype == np.uint8:
        return values
    return np.clip(np.floor(values.astype(np.float64) + 0.5), 0, 255).astype(np.uint8)


def _weigh(lines: Array, weighted: Taps) -> Array:
    """Axis 0 in float64: ((0 + p0 w0) + p1 w1) + ... in ascending order of the pixels."""
    total = np.zeros((weighted.index.shape[1], *lines.shape[1:]), np.float64)
    for index, weight in zip(weighted.index, weighted.weight, strict=True):
        total += lines[index].astype(np.float64) * weight[:, None, None]
    return total
