"""A model's outputs -> rows and columns of JSON.

Texts of an output whose name ends in `_bytes` are written as {"b64": "..."}, as TF Serving does.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.nonfinite import numpy_lists
from pipcook_deploy.server.tensors.strict_json import text_of


def to_rows(outputs: Tensors) -> Any:
    """One value a row; objects by name where there are several outputs. 400 if an output has no rows."""
    if len(outputs) == 1:
        ((name, value),) = outputs.items()
        if value.ndim == 0:
            raise HttpError(400, f"output {name!r} has no row for each instance: send `inputs`")
        return writable(name, value)
    counts = {value.shape[0] if value.ndim else -1 for value in outputs.values()}
    if len(counts) != 1 or -1 in counts:
        shapes = ", ".join(f"{name!r} {list(value.shape)}" for name, value in outputs.items())
        raise HttpError(400, f"the outputs have not all one row for each instance: {shapes}")
    columns = {name: writable(name, value) for name, value in outputs.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def to_columns(outputs: Tensors) -> Any:
    """Whole outputs; an object by name where there are several."""
    columns = {name: writable(name, value) for name, value in outputs.items()}
    return next(iter(columns.values())) if len(columns) == 1 else columns


def to_cells(outputs: Tensors, count: int) -> list[list[Any]]:
    """Each row's numbers and texts, flat, one output after the other; 400 if an output has no rows."""
    tables = []
    for name, value in outputs.items():
        if value.ndim == 0 or len(value) != count:
            raise HttpError(400, f"output {name!r} has no row for each instance: accept JSON")
        tables.append(_cells(value.reshape(count, -1)))
    return [[cell for table in tables for cell in table[row]] for row in range(count)]


def _cells(table: Any) -> list[list[Any]]:
    if _is_text(table):
        return [[text_of(cell) for cell in row] for row in table.tolist()]
    return numpy_lists(table)  # type: ignore[no-any-return]


def writable(name: str, value: Any) -> Any:
    """What orjson writes of an array: numbers as they are, texts as nested lists."""
    kind = value.dtype.kind
    if kind not in "biufOUS":
        if value.dtype.name != "bfloat16":  # a name takes numpy longer than all else here
            raise HttpError(400, f"output {name!r}: {value.dtype.name} has no JSON form")
        value, kind = value.astype(np.float32), "f"
    if kind in "biuf":
        return np.ascontiguousarray(value) if value.ndim else value[()]
    encode = _base64 if name.endswith("_bytes") else text_of
    return _nested([encode(item) for item in value.reshape(-1).tolist()], value.shape)


def _is_text(value: Any) -> bool:
    return value.dtype.kind in "OUS"


def _base64(item: object) -> dict[str, str]:
    data = item if isinstance(item, bytes) else str(item).encode()
    return {"b64": base64.b64encode(data).decode()}


def _nested(flat: list[Any], shape: Sequence[int]) -> Any:
    whole = np.empty(len(flat), dtype=object)
    whole[:] = flat
    return whole.reshape(shape).tolist()
