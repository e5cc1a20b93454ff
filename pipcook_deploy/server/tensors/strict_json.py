"""Tensors in the JSON of the Open Inference Protocol: strict in, lossless out."""

import math
import sys
from itertools import chain
from typing import Any

import numpy as np

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.datatypes import NO_JSON, datatype, shape_json, spelled
from pipcook_deploy.spec import TensorSpec

# JSON types that each kind of element accepts: true is not 1, 1.0 is not an integer.
ELEMENTS: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float}, "numbers"),
    "O": ({str}, "strings"),
}
MOST_OF_NOTHING = 65_536  # product of an empty tensor's other axes


def read_tensor(
    row: dict[str, Any], tensor: TensorSpec, max_rank: int, max_elements: int = sys.maxsize
) -> Any:
    """The array of one request input. 400 names the input and what is wrong with it."""
    where = f"input {tensor.name!r}"
    check_datatype(row.get("datatype"), tensor)
    shape = fitting_shape(row.get("shape"), tensor, max_rank, max_elements)
    if datatype(tensor.dtype) in NO_JSON:
        raise HttpError(400, f"{where}: {datatype(tensor.dtype)} has no JSON form in this protocol")
    if "data" not in row:
        raise HttpError(400, f"{where}: has no data")
    flat = _flat(row["data"], shape, where)
    dtype = np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    allowed, wording = ELEMENTS[dtype.kind]
    if not set(map(type, flat)) <= allowed:
        raise HttpError(400, f"{where}: data of {row['datatype']} must be {wording}")
    return typed(flat, dtype, where).reshape(shape)


def write_tensor(name: str, value: Any) -> dict[str, Any]:
    """One response output, data flat and row-major; NaN and infinities turn into null."""
    kind = spelled(value)
    if kind in NO_JSON:
        raise HttpError(400, f"output {name!r}: {kind} has no JSON form in this protocol")
    data: Any = value.ravel()  # in rows, copied only where it is not so already
    if kind == "BYTES":
        data = [text_of(item) for item in data.tolist()]
    return {"name": name, "datatype": kind, "shape": list(value.shape), "data": data}


def check_datatype(given: object, tensor: TensorSpec) -> None:
    """400 unless the request names the model's own element type."""
    wanted = datatype(tensor.dtype)
    if given != wanted:
        raise HttpError(
            400, f"input {tensor.name!r}: datatype must be {wanted}, not {given!r:.100}"
        )


def fitting_shape(
    given: object, tensor: TensorSpec, max_rank: int, max_elements: int = sys.maxsize
) -> tuple[int, ...]:
    """The shape of a request's input; 400 if it is none, or the model takes another."""
    where = f"input {tensor.name!r}"
    if (
        not isinstance(given, list)
        or len(given) > max_rank
        or any(type(size) is not int or size < 0 for size in given)
    ):
        raise HttpError(400, f"{where}: shape must be a list of whole numbers, at most {max_rank}")
    if not tensor.matches(tuple(given)):
        raise HttpError(400, f"{where}: shape {given} does not fit {shape_json(tensor.shape)}")
    if math.prod(given) > max_elements:
        raise HttpError(400, f"{where}: more than {max_elements} elements are not taken")
    check_empty(tuple(given), where)
    return tuple(given)


def check_empty(shape: tuple[int, ...], where: str) -> None:
    """400 for an empty tensor with long axes: it takes no bytes, and what a model makes of it may take all memory."""
    if 0 in shape and math.prod(size for size in shape if size) > MOST_OF_NOTHING:
        raise HttpError(400, f"{where}: shape {list(shape)} is too long for a tensor of nothing")


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


def typed(flat: list[Any], dtype: np.dtype[Any], where: str, finite: bool = True) -> Any:
    """An array of elements whose JSON types fit; 400 for a number that the type does not hold.

    `finite` says that NaN and infinities are such numbers.
    """
    try:
        if dtype.kind != "f":
            return np.array(flat, dtype=dtype)
        exact = np.array(flat, dtype=np.float64)
    except (OverflowError, ValueError) as error:
        raise HttpError(400, f"{where}: {error}") from None
    with np.errstate(over="ignore"):
        array = exact.astype(dtype)
    if not (np.isfinite(array) | (not finite and ~np.isfinite(exact))).all():
        raise HttpError(400, f"{where}: a number is too large for {dtype}")
    return array


def text_of(item: object) -> str:
    """An element of a tensor of texts: engines give bytes or str."""
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
