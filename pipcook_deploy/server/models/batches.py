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
        """Requests with the same sample shapes and the same batch size in every input can be joined."""
        sizes = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
        rows = sizes.pop() if len(sizes) == 1 else 0
        kind = tuple((name, value.shape[1:], value.dtype) for name, value in inputs.items())
        return cls(inputs, call, future, rows, kind if rows else None)

    def fits(self, other: "Item") -> bool:
        """Whether both can be computed together."""
        return self.kind is not None and self.kind == other.kind


Batch = list[Item]


def joined(batch: Batch) -> Tensors:
    """The inputs of all, one after the other along the first axis."""
    return {name: np.concatenate([item.inputs[name] for item in batch]) for name in batch[0].inputs}


def split_rows(outputs: Tensors, batch: Batch) -> list[Tensors] | None:
    """Each request's rows; None if an output has not one row a sample."""
    total = sum(item.rows for item in batch)
    if any(value.ndim == 0 or len(value) != total for value in outputs.values()):
        return None
    parts, start = [], 0
    for item in batch:
        parts.append({name: value[start : start + item.rows] for name, value in outputs.items()})
        start += item.rows
    return parts
