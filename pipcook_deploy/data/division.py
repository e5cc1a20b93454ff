"""Divides samples by chance, every class evenly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def even_order(classes: Array | None, count: int, seed: int) -> Array:
    """A random order of `count` samples, int64 [count], in which every stretch has its share of each class.

    The members of a class, shuffled, are spread evenly over the whole length from a random start; so a cut
    anywhere divides each class by the same share, to one sample or two.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(count)
    if classes is None:
        return shuffled
    grouped = shuffled[np.argsort(classes[shuffled], kind="stable")]
    _, start, size = np.unique(classes[grouped], return_index=True, return_counts=True)
    rank = np.arange(count) - np.repeat(start, size)
    place = (rank + np.repeat(rng.random(len(size)), size)) / np.repeat(size, size)
    return grouped[np.argsort(place, kind="stable")]


def interleaved(parts: list[Array]) -> tuple[Array, Array]:
    """Everything in `parts`, each in its own order, all of them moving on evenly: which part, and what of it."""
    places = np.concatenate([(np.arange(len(rows)) + 0.5) / max(1, len(rows)) for rows in parts])
    order = np.argsort(places, kind="stable")
    part = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])
    return part[order], np.concatenate(parts)[order]


def cut(order: Array, sizes: dict[str, int]) -> dict[str, Array]:
    """Stretches of the given sizes, one after the other."""
    ends = np.cumsum(list(sizes.values()))
    return {
        name: order[end - size : end]
        for (name, size), end in zip(sizes.items(), ends.tolist(), strict=True)
    }
