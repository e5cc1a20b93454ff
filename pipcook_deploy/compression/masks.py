"""Which weights are kept: boolean masks by magnitude, and how sparsity grows over a training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def magnitude_mask(weights: Array, sparsity: float) -> Mask:
    """Keeps the largest weights; exactly round(sparsity * size) are dropped, of equal ones the first."""
    drop = round(sparsity * weights.size)
    order = np.argsort(np.abs(weights), axis=None, kind="stable")
    mask = np.ones(weights.size, dtype=np.bool_)
    mask[order[:drop]] = False
    return mask.reshape(weights.shape)


def two_of_four(weights: Array, axis: int) -> Mask:
    """Keeps the two largest of every four neighbours along `axis`; what is left over at its end is kept.

    Sparse tensor cores take this pattern along the axis that a product sums over: the input channels.
    """
    rows = np.moveaxis(np.abs(weights), axis, -1)
    fours = rows.shape[-1] // 4 * 4
    groups = rows[..., :fours].reshape(*rows.shape[:-1], -1, 4)
    order = np.argsort(groups, axis=-1, kind="stable")
    kept = np.ones(groups.shape, dtype=np.bool_)
    np.put_along_axis(kept, order[..., :2], False, axis=-1)
    mask = np.ones(rows.shape, dtype=np.bool_)
    mask[..., :fours] = kept.reshape(*rows.shape[:-1], fours)
    return np.ascontiguousarray(np.moveaxis(mask, -1, axis))


def layer_sparsities(kernels: Mapping[str, Array], sparsity: float) -> dict[str, float]:
    """The sparsity of each kernel under one threshold for all of them, `sparsity` in total.

    Magnitudes of different layers do not compare: a batch norm undoes any scale. Each weight counts by the share
    of its square in the squares of the weights of its kernel that are not smaller (LAMP: Lee et al. 2021,
    "Layer-adaptive sparsity for the magnitude-based pruning", equation 5). The largest weight of a kernel has
    the score 1, so that no layer is emptied before all others.
    """
    scores = {name: _lamp(value) for name, value in kernels.items()}
    together = np.concatenate([*scores.values()])
    drop = round(sparsity * together.size)
    order = np.argsort(together, kind="stable")
    dropped = np.zeros(together.size, dtype=np.bool_)
    dropped[order[:drop]] = True
    ends = np.cumsum([score.size for score in scores.values()])[:-1]
    parts = np.split(dropped, ends)
    return {name: float(part.mean()) for name, part in zip(scores, parts, strict=True)}


def _lamp(weights: Array) -> Array:
    """Scores of the weights in ascending order of magnitude."""
    squares = np.sort(np.square(weights.astype(np.float64)), axis=None)
    not_smaller = np.cumsum(squares[::-1])[::-1]
    safe = np.where(not_smaller > 0, not_smaller, 1)
    scores: Array = squares / safe
    return scores


def polynomial(step: int, steps: int, start: float, end: float) -> float:
    """Sparsity after `step` of `steps`: end + (start - end) (1 - t)^3 (Zhu and Gupta 2017, equation 1)."""
    left = 1.0 - min(max(step / max(steps, 1), 0.0), 1.0)
    return end + (start - end) * left**3


def sparsity_of(value: Array) -> float:
    """The share of exact zeros."""
    return float(np.mean(value == 0)) if value.size else 0.0


def histogram(value: Array, bins: int = 32) -> dict[str, list[float]]:
    """Counts of the weights between equally spaced edges, as plain data."""
    counts, edges = np.histogram(value.astype(np.float64), bins)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
