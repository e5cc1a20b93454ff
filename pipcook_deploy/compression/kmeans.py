"""k-means of numbers, without chance: the same weights give the same centroids."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ROUNDS = 300
BINS = 4096  # what the first centroids are chosen from


def cluster_values(values: Array, count: int) -> tuple[Array, NDArray[np.int64]]:
    """At most `count` centroids, ascending, and the number of the centroid of each value: float64 [k], int64 [n].

    Lloyd's rounds from an optimal clustering of the histogram: in one dimension clusters are intervals, and the best
    bounds follow from the bounds of one cluster less (Wu 1991; Wang and Song 2011, "Ckmeans.1d.dp").
    """
    flat = values.astype(np.float64).ravel()
    distinct, weights = np.unique(flat, return_counts=True)
    if len(distinct) <= count:
        return distinct, np.searchsorted(distinct, flat)
    centroids = _lloyd(distinct, weights.astype(np.float64), _start(distinct, weights, count))
    return centroids, _nearest(flat, centroids)


def _start(distinct: Array, weights: Array, count: int) -> Array:
    """Means of the optimal intervals of a histogram of equal widths."""
    edges = np.linspace(distinct[0], distinct[-1], min(BINS, 16 * count + 64) + 1)
    places = np.clip(np.searchsorted(edges, distinct, side="right") - 1, 0, len(edges) - 2)
    mass = np.bincount(places, weights, len(edges) - 1)
    sums = np.bincount(places, weights * distinct, len(edges) - 1)
    filled = mass > 0
    mass, means = mass[filled], sums[filled] / mass[filled]
    bounds = _optimal_bounds(means, mass, min(count, len(means)))
    totals = np.add.reduceat(mass, bounds)
    return np.add.reduceat(mass * means, bounds) / totals


def _optimal_bounds(points: Array, mass: Array, count: int) -> NDArray[np.int64]:
    """Where each of `count` intervals of ascending points starts, for the least sum of squares."""
    ones = np.concatenate([[0.0], np.cumsum(mass)])
    sums = np.concatenate([[0.0], np.cumsum(mass * points)])
    squares = np.concatenate([[0.0], np.cumsum(mass * points**2)])
    size = len(points)
    starts, ends = np.arange(size)[:, None], np.arange(1, size + 1)[None, :]
    total = ones[ends] - ones[starts]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = squares[ends] - squares[starts] - (sums[ends] - sums[starts]) ** 2 / total
    cost = np.where(ends > starts, cost, np.inf)  # cost[i, j - 1]: points i to j - 1 as one cluster
    best = cost[0]
    cuts = np.zeros((count, size), dtype=np.int64)
    for k in range(1, count):
        before = np.concatenate([[np.inf], best[:-1]])  # the best of the points left of a start
        both = before[:, None] + cost
        cuts[k] = both.argmin(axis=0)
        best = both[cuts[k], np.arange(size)]
    bounds, end = [], size - 1
    for k in range(count - 1, -1, -1):
        start = int(cuts[k, end]) if k else 0
        bounds.append(start)
        end = start - 1
    return np.array(bounds[::-1], dtype=np.int64)


def _lloyd(distinct: Array, weights: Array, centroids: Array) -> Array:
    for _ in range(ROUNDS):
        numbers = _nearest(distinct, centroids)
        mass = np.bincount(numbers, weights, len(centroids))
        sums = np.bincount(numbers, weights * distinct, len(centroids))
        moved = np.where(mass > 0, sums / np.maximum(mass, 1e-300), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _nearest(values: Array, centroids: Array) -> NDArray[np.int64]:
    """Of ascending centroids."""
    middles = (centroids[1:] + centroids[:-1]) / 2
    return np.searchsorted(middles, values)
