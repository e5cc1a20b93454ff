"""Requests of plain numbers, read without making a Python object of each: three times as fast.

What is unusual in any way is left to `strict_json`, whose answers and messages count. Both accept the same, but
for a number in brackets of its own among plain ones, which passes here.
"""

import threading
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.tensors.datatypes import DATATYPES
from pipcook_deploy.spec import TensorSpec

# As simdjson's buffers come: (its name of the type, numpy's).
BUFFERS = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}


NUMBERS = {
    name: np.dtype(name)
    for name in (
        "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    )
}  # fmt: skip
MOST_KEYS = 32  # each is found by a search through the object: many would take forever
FLOAT32_MAX = 3.4e38
FLOAT32_MAX_SQUARED = FLOAT32_MAX**2
KNOWN_SHAPES = 256  # of one input
DOT_SIZE = 4096  # numpy's dot uses threads of its own for much longer vectors


class _Local(threading.local):
    def __init__(self) -> None:
        import simdjson

        self.parser = simdjson.Parser()


_local: _Local | None = None


def parse(body: bytes) -> Any:
    """The document as lazy views, or None if it is no JSON object, or one of many keys.

    The views must be gone before the same thread parses again: simdjson keeps one document a parser.
    """
    global _local
    if _local is None:
        _local = _Local()
    try:
        document: Any = _local.parser.parse(body)
    except RuntimeError:  # views of the last document are still held, by a traceback for instance
        _local = _Local()
        return None
    except ValueError:
        return None
    return document if hasattr(document, "keys") and len(document) <= MOST_KEYS else None


class PlainReader:
    """Reads the inputs of one model, or answers None: what is known of the model is looked up once, here."""

    def __init__(self, tensors: tuple[TensorSpec, ...], max_elements: int) -> None:
        plain = all(tensor.dtype in NUMBERS for tensor in tensors)
        self._inputs = [_PlainInput(t, max_elements) for t in tensors if plain]
        self._only = self._inputs[0] if len(self._inputs) == 1 else None

    def read(self, document: Any) -> Tensors | None:
        """The inputs in the model's order; None if anything is not as plain as it could be."""
        only = self._only
        try:
            rows = document["inputs"]
            if not self._inputs or len(rows) != len(self._inputs):
                return None
            if only is not None:
                value = only.read(rows[0])
                return None if value is None else {only.name: value}
            named = {row["name"]: row for row in rows}
            values = {each.name: each.read(named[each.name]) for each in self._inputs}
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            return None
        return None if any(value is None for value in values.values()) else values


class _PlainInput:
    """What a row must say to be read the short way; lean, because a tiny model answers in no more time."""

    def __init__(self, tensor: TensorSpec, max_elements: int) -> None:
        self.name = tensor.name
        self._datatype = DATATYPES[tensor.dtype]
        self._shape = tensor.shape
        self._max = max_elements
        self._known: dict[bytes, tuple[list[int], int]] = {}
        self._dtype = NUMBERS[tensor.dtype]
        self._buffer, self._wide = BUFFERS[self._dtype.kind]

    def read(self, row: Any) -> Any:
        if row["datatype"] != self._datatype or row["name"] != self.name:
            return None
        sizes = row["shape"]
        # Whole numbers only: 1.0 and true equal 1, and are no sizes.
        known = self._known.get(bytes(sizes.as_buffer(of_type="i")))
        shape, count = known or self._sized(sizes.as_list())
        if not count:
            return None
        data = row["data"]
        if not (isinstance(data[0], float | int) and len(data) == count) and not _nested(
            data, shape
        ):
            return None
        flat = np.frombuffer(data.as_buffer(of_type=self._buffer), self._wide)
        if flat.size != count:
            return None
        narrow = narrowed(flat, self._dtype)
        return None if narrow is None else narrow.reshape(shape)

    def _sized(self, shape: list[int]) -> tuple[list[int], int]:
        """A shape and its elements; 0 of them if the model takes another."""
        if len(shape) != len(self._shape):
            return shape, 0
        count = 1
        for size, wanted in zip(shape, self._shape, strict=True):
            if type(size) is not int or size < 0 or wanted not in (None, size):
                return shape, 0
            count *= size
        if count > self._max:
            return shape, 0
        if len(self._known) >= KNOWN_SHAPES:
            self._known.clear()
        self._known[np.array(shape, np.int64).tobytes()] = shape, count
        return shape, count


def narrowed(flat: Any, dtype: Any) -> Any:
    """In the model's element type; None if a number might not fit it."""
    if dtype.kind == "f":
        if dtype.itemsize == 8:
            return flat
        # One pass, and no warning to be silenced: where the sum of squares is small, each number is.
        if flat.size <= DOT_SIZE:
            return flat.astype(dtype) if flat.dot(flat) < FLOAT32_MAX_SQUARED else None
        return flat.astype(dtype) if max(flat.max(), -flat.min()) < FLOAT32_MAX else None
    if dtype.itemsize == 8:
        return flat
    limits = np.iinfo(dtype)
    fits = flat.min() >= limits.min and flat.max() <= limits.max
    return flat.astype(dtype) if fits else None


def _nested(data: Any, shape: list[int]) -> bool:
    """Whether `data` is nested in exactly this shape."""
    rows = [data]
    for size in shape[:-1]:
        if any(len(row) != size for row in rows):
            return False
        rows = [part for row in rows for part in row]
    return all(len(row) == shape[-1] for row in rows)
