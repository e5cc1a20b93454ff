"""Percentile bootstrap over samples: seeded, and in groups of resamples that fit in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
RESAMPLES = 1000
SEED = 20  # the same for every call: paired resamples, and the same interval every time
MOST_ELEMENTS = 2_000_000


def resamples(count: int, elements: int | None = None, times: int = RESAMPLES) -> Iterator[Array]:
    """Groups of resamples of `count` samples: their positions, [group, count].

    `elements` is how many numbers a resample costs whoever asks; groups are small enough for them.
    """
    rng = np.random.default_rng(SEED)
    group = max(1, MOST_ELEMENTS // max(count, elements or 0, 1))
    while times > 0:
        # Resample by resample, so that the size of a group changes no number.
        rows = [rng.integers(0, count, count) for _ in range(min(group, times))]
        yield np.stack(rows)
        times -= len(rows)


def interval(
    count: int, statistic: Callable[[Array], Array], elements: int | None = None
) -> tuple[float, float]:
    """95 % interval of a statistic, given as a function of positions [group, count] -> [group]."""
    values = np.concatenate([statistic(rows) for rows in resamples(count, elements)])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
