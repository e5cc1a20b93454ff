"""Which source pixels make a resized pixel, and with what weights, along one axis.

Every weight is a float64 computed in the order written, so that another language gets the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK_VALUES = (
    1 << 16
)  # resized values at a time: enough to be worth a numpy call, few enough to cache


@dataclass(frozen=True)
class Window:
    """Part `[start, start + count)` of an axis of `source` pixels resized to `target`."""

    source: int
    target: int
    start: int
    count: int


@dataclass(frozen=True)
class Taps:
    """`index[k, i]` and `weight[k, i]`: the k-th source pixel of output pixel i, in ascending order.

    Pixels with fewer taps than others have weight 0 at the end, which changes no bit of a sum.
    """

    index: Array  # int64 [taps, outputs]
    weight: Array  # float64 [taps, outputs]


def by_rows(image: Array, width: int, resize_width: Callable[[Array], Array]) -> Array:
    """`resize_width` of blocks of rows that fit the processor's cache: rows do not see each other."""
    rows = max(1, BLOCK_VALUES // (width * image.shape[2]))
    blocks = [resize_width(image[y : y + rows]) for y in range(0, image.shape[0], rows)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def positions(window: Window, corners: str) -> tuple[Array, float]:
    """Source coordinates (the centre of pixel j is j) of the output pixels, and source per target."""
    i = np.arange(window.start, window.start + window.count, dtype=np.float64)
    if corners == "align_corners":
        ratio = (window.source - 1) / (window.target - 1) if window.target > 1 else 0.0
        return i * ratio, ratio
    ratio = window.source / window.target
    return ((i + 0.5) * ratio - 0.5 if corners == "half_pixel" else i * ratio), ratio


def nearest(window: Window, corners: str) -> Array:
    """int64 [outputs]: the source pixel that each output pixel copies."""
    i = np.arange(window.start, window.start + window.count, dtype=np.float64)
    place, ratio = positions(window, corners)
    if corners == "half_pixel":
        place = (i + 0.5) * ratio
    elif corners == "align_corners":
        place = place + 0.5
    return np.minimum(np.floor(place).astype(np.int64), window.source - 1)


def bilinear(window: Window, corners: str) -> Taps:
    """Two taps with weights 1 - f and f; outside the image the edge pixel counts."""
    place, _ = positions(window, corners)
    low = np.floor(place)
    part = place - low
    index = np.stack([low, low + 1]).astype(np.int64)
    return Taps(np.clip(index, 0, window.source - 1), np.stack([1 - part, part]))


def bicubic(window: Window, corners: str) -> Taps:
    """Four taps of `cubic`; outside the image the edge pixel counts."""
    place, _ = positions(window, corners)
    low = np.floor(place)
    index = low + np.arange(-1, 3, dtype=np.float64)[:, np.newaxis]
    weight = cubic(index - place)
    return Taps(np.clip(index.astype(np.int64), 0, window.source - 1), weight)


def spread(window: Window, method: str, antialias: bool) -> Taps:
    """All taps under the kernel, widened by the ratio when shrinking; outside taps are dropped.

    The weights are divided by their sum, taken in ascending order. Half-pixel corners.
    """
    kernel, radius = (cubic, 2.0) if method == "bicubic" else (triangle, 1.0)
    place, ratio = positions(window, "half_pixel")
    width = max(ratio, 1.0) if antialias else 1.0
    first = np.maximum(np.ceil(place - radius * width), 0.0)
    last = np.minimum(np.floor(place + radius * width), float(window.source - 1))
    steps = np.arange(int(np.max(last - first)) + 1, dtype=np.float64)[:, np.newaxis]
    index = first + steps
    inside = index <= last
    weight = np.where(inside, kernel((index - place) / width), 0.0)
    weight = weight / np.cumsum(weight, axis=0)[-1]
    return Taps(np.where(inside, index, last).astype(np.int64), weight)


def triangle(x: Array) -> Array:
    """max(0, 1 - |x|)."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def cubic(x: Array) -> Array:
    """Keys' kernel with a = -1/2, evaluated by Horner's rule as written."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))
