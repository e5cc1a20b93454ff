"""Tensors in the JSON of the Open Inference Protocol: strict in, lossless out."""

import math
from itertools import chain
from typing import Any

import numpy as np

from pipcook_deploy.server.http import HttpError
from pipcook_deploy.spec import TensorSpec

DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
NO_JSON = ("FP16", "BF16")  # the protocol gives them no JSON form
# JSON types that each kind of element accepts: true is not 1, 1.0 is not an integer.
ELEMENTS: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float}, "numbers"),
    "O": ({str}, "strings"),
}


def datatype(dtype: str) -> str:
    """As the protocol spells it."""
    return DATATYPES.get(dtype, dtype.upper())


def shape_json(shape: tuple[int | None, ...]) -> list[int]:
    """-1 for a dynamic axis."""
    return [-1 if size is None else size for size in shape]


def read_tensor(row: dict[str, Any], tensor: TensorSpec, max_rank: int) -> Any:
    """The array of one request input. 400 names the input and what is wrong with it."""
    where = f"input {tensor.name!r}"
    _check_datatype(row.get("datatype"), tensor, where)
    shape = _shape(row.get("shape"), max_rank, where)
    if not tensor.matches(shape):
        raise HttpError(
            400, f"{where}: shape {list(shape)} does not fit {shape_json(tensor.shape)}"
        )
    if "data" not in row:
        raise HttpError(400, f"{where}: has no data")
    flat = _flat(row["data"], shape, where)
    dtype = np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    allowed, wording = ELEMENTS[dtype.kind]
    if not set(map(type, flat)) <= allowed:
        raise HttpError(400, f"{where}: data of {row['datatype']} must be {wording}")
    return _array(flat, dtype, where).reshape(shape)


def write_tensor(name: str, value: Any) -> dict[str, Any]:
    """One response output, data flat and row-major; NaN and infinities turn into null."""
    text = value.dtype.kind in "OUS"
    spelled = "BYTES" if text else datatype(value.dtype.name)
    if spelled in NO_JSON:
        raise HttpError(400, f"output {name!r}: {spelled} has no JSON form in this protocol")
    flat = np.ascontiguousarray(value).reshape(-1)
    data = [_text(item) for item in flat.tolist()] if text else flat
    return {"name": name, "datatype": spelled, "shape": list(value.shape), "data": data}


def _check_datatype(given: object, tensor: TensorSpec, where: str) -> None:
    wanted = datatype(tensor.dtype)
    if given != wanted:
        raise HttpError(400, f"{where}: datatype must be {wanted}, not {given!r}")
    if wanted in NO_JSON:
        raise HttpError(400, f"{where}: {wanted} has no JSON form in this protocol")


def _shape(given: object, max_rank: int, where: str) -> tuple[int, ...]:
    if (
        not isinstance(given, list)
        or len(given) > max_rank
        or any(type(size) is not int or size < 0 for size in given)
    ):
        raise HttpError(400, f"{where}: shape must be a list of whole numbers, at most {max_rank}")
    return tuple(given)


def _flat(data: object, shape: tuple[int, ...], where: str) -> list[Any]:
    """Row-major elements of flat or nested `data`."""
    if not isinstance(data, list):
        raise HttpError(400, f"{where}: data must be a list")
    count = math.prod(shape)
    if data and isinstance(data[0], list):
        rows: list[Any] = [data]
        for size in shape:
            if any(not isinstance(row, list) or len(row) != size for row in rows):
                raise HttpError(400, f"{where}: nested data does not have shape {list(shape)}")
            rows = list(chain.from_iterable(rows))
        return rows
    if len(data) != count:
        raise HttpError(
            400, f"{where}: shape {list(shape)} needs {count} elements, data has {len(data)}"
        )
    return data


def _array(flat: list[Any], dtype: np.dtype[Any], where: str) -> Any:
    try:
        if dtype.kind != "f":
            return np.array(flat, dtype=dtype)
        exact = np.array(flat, dtype=np.float64)
    except (OverflowError, ValueError) as error:
        raise HttpError(400, f"{where}: {error}") from None
    with np.errstate(over="ignore"):
        array = exact.astype(dtype)
    if not np.isfinite(array).all():
        raise HttpError(400, f"{where}: a number is too large for {dtype}")
    return array


def _text(item: object) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
