"""Which kernel gives up how many weights, so that a total is reached with the least harm."""

import heapq
from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import Any

from pipcook_deploy.compression.pruning_plan import CAREFUL

STEP = 0.01


def allocate(
    rows: Sequence[Mapping[str, Any]],
    sparsity: float,
    careful: Mapping[Any, float] = CAREFUL,
) -> dict[str, float]:
    """The sparsity of each kernel, `sparsity` over all of them, from the rows of `sensitivity.measure`.

    Takes from where a dropped weight costs the least, a step at a time, along each kernel's measured curve. No
    kernel keeps less than a quarter of the share that is kept on the whole, and careful ones go no further than
    their factor of `sparsity`: then the total may stay below.
    """
    total = sum(int(row["parameters"]) for row in rows)
    dropped = {str(row["name"]): 0.0 for row in rows}
    limits = {str(row["name"]): _limit(row, sparsity, careful) for row in rows}
    waiting = [_next(row, 0, limits[str(row["name"])]) for row in rows]
    heap = [(cost, number, 0) for number, cost in enumerate(waiting) if cost is not None]
    heapq.heapify(heap)
    removed = 0.0
    while heap and removed < sparsity * total:
        cost, number, step = heapq.heappop(heap)
        row = rows[number]
        name = str(row["name"])
        size = min(STEP, limits[name] - step * STEP)
        size = min(size, (sparsity * total - removed) / int(row["parameters"]))
        dropped[name] += size
        removed += size * int(row["parameters"])
        following = _next(row, step + 1, limits[name])
        if following is not None:  # never cheaper than the step before: curves are taken as convex
            heapq.heappush(heap, (max(cost, following), number, step + 1))
    return {name: round(share, 4) for name, share in dropped.items() if share > 0}


def _limit(row: Mapping[str, Any], sparsity: float, careful: Mapping[Any, float]) -> float:
    if row.get("care") is not None:
        return sparsity * careful.get(row["care"], 1.0)
    return 1 - (1 - sparsity) / 4


def _next(row: Mapping[str, Any], step: int, limit: float) -> float | None:
    """Damage a weight of the next step; None at the limit."""
    start, end = step * STEP, min((step + 1) * STEP, limit)
    if end - start < 1e-9:
        return None
    curve = sorted((float(s), float(d)) for s, d in row["damage"]["prune"])
    return (_damage(curve, end) - _damage(curve, start)) / ((end - start) * int(row["parameters"]))


def _damage(curve: Sequence[tuple[float, float]], share: float) -> float:
    """Between what was measured, and beyond it.

    Damage grows with the square of what is missing: its root is taken as linear in -log of the share that is
    kept, which makes every halving of a kernel count alike.
    """
    points, most = [(0.0, 0.0)], 0.0
    for s, d in curve:
        most = max(most, sqrt(d))
        points.append((-log(1 - s), most))
    at = -log(1 - share)
    number = next((n for n, (x, _) in enumerate(points) if x >= at and n), len(points) - 1)
    (x0, y0), (x1, y1) = points[number - 1], points[number]
    return float((y0 + (y1 - y0) * (at - x0) / (x1 - x0)) ** 2)
