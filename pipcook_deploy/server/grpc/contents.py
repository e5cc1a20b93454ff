"""Typed contents of a tensor: the fields of InferTensorContents to arrays and back.

Small integers travel in the 32-bit fields. FP16 and BF16 have no field: they go as raw contents only.
"""

import math
from typing import Any

import numpy as np

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.datatypes import datatype, spelled
from pipcook_deploy.server.tensors.raw import text_of
from pipcook_deploy.spec import TensorSpec

FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
    "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
    "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
WIDE = {"int_contents": np.int32, "uint_contents": np.uint32}


def from_contents(contents: Any, tensor: TensorSpec, shape: tuple[int, ...]) -> Any:
    """The array of an input; 400 says what is wrong with it."""
    where, kind = f"input {tensor.name!r}", datatype(tensor.dtype)
    field = FIELDS.get(kind)
    if field is None:
        raise HttpError(400, f"{where}: {kind} has no typed contents; send raw_input_contents")
    values, count = getattr(contents, field), math.prod(shape)
    if len(values) != count:
        raise HttpError(
            400,
            f"{where}: shape {list(shape)} needs {count} elements, {field} has {len(values)}",
        )
    if kind == "BYTES":
        texts = np.empty(count, dtype=object)
        texts[:] = [text_of(value, tensor.name) for value in values]
        return texts.reshape(shape)
    dtype = np.dtype(tensor.dtype)
    wide = np.fromiter(values, WIDE.get(field, dtype), count)
    return _narrowed(wide, dtype, where).reshape(shape)


def to_contents(value: Any, contents: Any) -> bool:
    """Put an array into `contents`; False if its type has no field there."""
    field = FIELDS.get(spelled(value))
    if field is None:
        return False
    items = value.reshape(-1).tolist()
    if field == "bytes_contents":
        items = [item if isinstance(item, bytes) else str(item).encode() for item in items]
    getattr(contents, field).extend(items)
    return True


def _narrowed(wide: Any, dtype: np.dtype[Any], where: str) -> Any:
    if wide.dtype == dtype or not wide.size:
        return wide.astype(dtype)
    limits = np.iinfo(dtype)
    if wide.min() < limits.min or wide.max() > limits.max:
        raise HttpError(400, f"{where}: a number is too large for {dtype}")
    return wide.astype(dtype)
