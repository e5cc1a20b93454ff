"""The default resize of Jimp 0.x, and so of Pipcook: what its models were trained with.

Per axis, width first: the mean over the area that an output pixel covers when shrinking, linear
interpolation at `i * ratio - 1/3` when growing (the third is Jimp's, where one would expect half a
pixel). Positions and sums accumulate step by step and are kept in float32 between the passes, as
Jimp keeps them: the pixels are the same, not nearly the same. Opaque images only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.taps import Taps, by_rows

Array = NDArray[Any]
CHANNELS = (
    4  # Jimp's pixels are RGBA: its positions advance by 4 a pixel, which shows in the last bit
)


def resize(image: Array, height: int, width: int) -> Array:
    """uint8 [H, W, C] -> uint8 [height, width, C]."""
    if image.dtype != np.uint8:
        raise PreprocessingError(f"resize by area_bilinear takes a uint8 image, not {image.dtype}")
    rows, columns = image.shape[:2]
    wide: Array = image
    if columns != width:
        across = _pass(columns, width, CHANNELS)
        wide = by_rows(
            image,
            width,
            lambda block: across(block.transpose(1, 0, 2)).astype(np.float32).transpose(1, 0, 2),
        )
    if rows != height:
        down = _pass(rows, height, CHANNELS * width)
        return np.floor(down(wide) + 0.5).astype(np.uint8)
    # Without a height pass nothing rounds: Jimp cuts the fraction off.
    return np.floor(wide).astype(np.uint8)


def _pass(source: int, target: int, stride: int) -> Callable[[Array], Array]:
    """Resizes axis 0 from `source` to `target`, giving float64 that has not been rounded yet."""
    if source > target:
        taps, total = shrinking(source, target, stride)
        share = (1.0 / total)[:, None, None]
        return lambda lines: _accumulate(lines, taps).astype(np.float64) * share
    grown = growing(source, target)
    first, second = (weight[:, None, None] for weight in grown.weight)
    return lambda lines: (
        lines[grown.index[0]].astype(np.float64) * first
        + lines[grown.index[1]].astype(np.float64) * second
    )


def _accumulate(lines: Array, taps: Taps) -> Array:
    """Sum of the taps in ascending order, rounded to float32 after each."""
    total = np.zeros((taps.index.shape[1], *lines.shape[1:]), np.float32)
    for index, weight in zip(taps.index, taps.weight, strict=True):
        total = (total + lines[index].astype(np.float64) * weight[:, None, None]).astype(np.float32)
    return total


def shrinking(source: int, target: int, stride: int) -> tuple[Taps, Array]:
    """Taps and their sums (float64 [target]). `place` and `edge` count in units of `stride` a pixel."""
    ratio = source / target
    rows: list[list[tuple[int, float]]] = []
    pixel, edge = 0, 0.0
    for _ in range(target):
        left, row = ratio, []
        while left > 0 and pixel < source:
            to_next = 1 + pixel * stride - edge
            row.append((pixel, min(left, to_next)))
            if left < to_next:
                edge += left
                break
            pixel += 1
            edge = float(pixel * stride)
            left -= to_next
        rows.append(row or [(source - 1, 0.0)])
    return _pack(rows)


def _pack(rows: list[list[tuple[int, float]]]) -> tuple[Taps, Array]:
    most = max(map(len, rows))
    index = np.zeros((most, len(rows)), np.int64)
    weight = np.zeros((most, len(rows)), np.float64)
    for i, row in enumerate(rows):
        for k, (pixel, share) in enumerate(row):
            index[k, i], weight[k, i] = pixel, share
    return Taps(index, weight), np.cumsum(weight, axis=0)[-1]


def growing(source: int, target: int) -> Taps:
    """Two taps; positions are sums of `ratio`, the first third of a pixel copies the edge."""
    ratio = source / target
    place, places = 0.0, []
    while place < 1 / 3:
        places.append(0.0)
        place += ratio
    place -= 1 / 3
    while place < source - 1:
        places.append(place)
        place += ratio
    places = (places + [float(source - 1)] * target)[:target]
    exact = np.asarray(places)
    low = np.floor(exact)
    part = exact - low
    high = np.minimum(low + 1, source - 1)
    return Taps(np.stack([low, high]).astype(np.int64), np.stack([1 - part, part]))
