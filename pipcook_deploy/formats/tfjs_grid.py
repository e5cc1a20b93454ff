"""The uniform grid that a weight is stored on: w = q * scale + low for q = 0, 1 ... steps.

TF.js computes that in float64 and rounds it to float32 (tfjs-core `io/io_utils.ts`). With low = -(k * scale),
in float64 too, q = k comes back as exactly zero: weights that were pruned stay pruned.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FEW = 64  # levels below which cutting off the largest weights makes the others enough better
_SHARES = np.linspace(1.0, 0.25, 46)  # of the range, that the grid covers
_SEARCHED = 1 << 16  # elements that the search looks at


def affine(value: Array, steps: int) -> tuple[Array, float, float]:
    """Numbers on the grid, its scale and its lowest value, for float64 values.

    With zero between the lowest and the highest value, zero is on the grid. Few steps take the grid with
    the least squared error of those tried; many take the whole range.
    """
    low, high = (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)
    if (high - low) / steps == 0:
        return np.zeros(value.shape), 1.0, low
    grids = [_over(low, high, steps)]
    if steps + 1 < FEW:
        grids = [*_centroids(value, steps), *grids, *_cut(low, high, steps)]
    part = value.ravel()[:: -(-value.size // _SEARCHED)]
    scale, start = (
        min(grids, key=lambda grid: _error(part, steps, *grid)) if grids[1:] else grids[0]
    )
    return on_grid(value, steps, scale, start), scale, start


def on_grid(value: Array, steps: int, scale: float, low: float) -> Array:
    """The nearest number on the grid for each value."""
    numbers: Array = np.clip(np.rint((value - low) / scale), 0, steps)
    return numbers


def _over(low: float, high: float, steps: int) -> tuple[float, float]:
    """A grid from `low` to `high`, moved so that zero is on it if it is between them."""
    scale = (high - low) / steps
    if low <= 0 <= high:
        low = -round(-low / scale) * scale + 0.0  # + 0.0: no minus zero in the file
    return scale, low


def _cut(low: float, high: float, steps: int) -> list[tuple[float, float]]:
    """Grids over less than the range: both ends, and only the end that is further from zero."""
    if not low <= 0 <= high:
        middle = (low + high) / 2
        return [
            _over(middle + (low - middle) * share, middle + (high - middle) * share, steps)
            for share in _SHARES[1:]
        ]
    near = min(-low, high)
    grids = []
    for share in _SHARES[1:]:
        grids.append(_over(low * share, high * share, steps))
        far = max(near, max(-low, high) * share)
        grids.append(_over(max(low, -far), min(high, far), steps))
    return grids


def _centroids(value: Array, steps: int) -> list[tuple[float, float]]:
    """The grid that few distinct values lie on already, if they do."""
    distinct = np.unique(value)
    if not 1 < distinct.size <= steps + 1:
        return []
    gap = float(np.diff(distinct).min())
    low, high = float(distinct[0]), float(distinct[-1])
    if round((high - low) / gap) > steps:
        return []
    scale = (high - low) / round((high - low) / gap)
    return [_over(low, low + steps * scale, steps)]


def _error(value: Array, steps: int, scale: float, low: float) -> float:
    restored = on_grid(value, steps, scale, low) * scale + low
    return float(np.square(restored - value).sum())
