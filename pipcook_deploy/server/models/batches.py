"""Requests that wait for an engine, and several of them as one batch."""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.call import Call


@dataclass(slots=True)
class Item:
    """One request. `rows` is its batch size; `kind` is what requests of one batch have in common."""

    inputs: Tensors
    call: Call
    future: "asyncio.Future[Tensors]"
    rows: int
    kind: Any
    since: float = field(default_factory=perf_counter)

    @classmethod
    def of(cls, inputs: Tensors, call: Call, future: "asyncio.Future[Tensors]") -> "Item":
        """What waits for the engine from now on."""
        rows = rows_of(inputs)
        return cls(inputs, call, future, rows, kind_of(inputs) if rows else None)

    def fits(self, other: "Item") -> bool:
        """Whether both can be computed together."""
        return self.kind is not None and self.kind == other.kind


Batch = list[Item]


def rows_of(inputs: Tensors) -> int:
    """The batch size; 0 where the inputs do not share one."""
    sizes = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def kind_of(inputs: Tensors) -> tuple[object, ...]:
    """The same for requests that can be joined: the shapes of a sample, and the element types."""
    return tuple([(value.shape[1:], value.dtype) for value in inputs.values()])


def joined(requests: list[Tensors]) -> Tensors:
    """The inputs of all, one after the other along the first axis."""
    return {name: np.concatenate([each[name] for each in requests]) for name in requests[0]}


def split_rows(outputs: Tensors, rows: list[int]) -> list[Tensors] | None:
    """Each request's rows; None if an output has not one row a sample."""
    total = sum(rows)
    if any(value.ndim == 0 or len(value) != total for value in outputs.values()):
        return None
    parts, start = [], 0
    for count in rows:
        parts.append({name: value[start : start + count] for name, value in outputs.items()})
        start += count
    return parts
