"""Arithmetic on sizes that may be unknown, and what a layer does to shapes."""

from dataclasses import dataclass
from math import prod
from typing import Any

from pipcook_deploy.sources.keras_topology import Shape

Config = dict[str, Any]
Known = tuple[int | None, ...]


@dataclass(frozen=True)
class Effect:
    """What a layer does to its input shapes."""

    outputs: tuple[Shape, ...]
    parameters: int | None = 0
    macs: int | None = 0


UNKNOWN = Effect((None,), None, None)


def times(*sizes: int | None) -> int | None:
    """A product, None if a factor is unknown."""
    known = [size for size in sizes if size is not None]
    return prod(known) if len(known) == len(sizes) else None


def plus(*sizes: int | None) -> int | None:
    """A sum, None if a term is unknown."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def bias(config: Config, count: int | None) -> int | None:
    """Parameters of a bias vector, if the layer has one."""
    return count if config.get("usebias", True) else 0
