"""Rows, columns and features of JSON -> a model's own tensors: what TF Serving, Vertex AI, MLflow and SageMaker share.

A row is one sample: the value of the only input, or an object with one value for each input. A column holds a
whole input, batch axis included. A feature is a row's value as tf.Example holds it: one number, or a flat list.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.datatypes import shape_json
from pipcook_deploy.server.tensors.strict_json import ELEMENTS, check_empty, typed
from pipcook_deploy.spec import TensorSpec

Inputs = tuple[TensorSpec, ...]


def from_rows(rows: object, inputs: Inputs, finite: bool = True) -> Tensors:
    """Tensors of `rows`, one after the other along a new first axis; a fixed batch size is not asked for."""
    checked = checked_rows(rows)
    if not is_named(checked[0]):
        tensor = only(inputs)
        if any(is_named(row) for row in checked):
            raise HttpError(400, "either all instances are objects by input name, or none is")
        return {tensor.name: array(checked, tensor, finite, rows=True)}
    named = [named_row(row, inputs) for row in checked]
    return {t.name: array([row[t.name] for row in named], t, finite, rows=True) for t in inputs}


def from_columns(value: object, inputs: Inputs, finite: bool = True) -> Tensors:
    """Tensors as they are written: an object by input name, or the only input's."""
    if not is_named(value):
        tensor = only(inputs)
        return {tensor.name: array(value, tensor, finite)}
    columns = named_row(value, inputs)
    return {t.name: array(columns[t.name], t, finite) for t in inputs}


def from_features(rows: Sequence[dict[str, Any]], inputs: Inputs, finite: bool = True) -> Tensors:
    """Flat lists or numbers by input name, in the shape that the input's samples have."""
    named = [named_row(row, inputs) for row in rows]
    return {t.name: _features([row[t.name] for row in named], t, finite) for t in inputs}


def checked_rows(rows: object) -> list[Any]:
    """`rows` if it is a list with something in it; 400 otherwise."""
    if isinstance(rows, list) and rows:
        return rows
    raise HttpError(400, "the instances must be a list, and not empty")


def is_base64(value: object) -> bool:
    """Whether it is {"b64": "..."}, and nothing else."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def is_named(value: object) -> bool:
    """Whether it is an object of values by name."""
    return isinstance(value, dict) and not is_base64(value)


def decoded(value: dict[str, str]) -> bytes:
    """The bytes of {"b64": "..."}; padding and line ends may be as they are."""
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HttpError(400, f"b64 is not base64: {error}") from None


def only(inputs: Inputs) -> TensorSpec:
    """The one input; 400 naming them where there are several."""
    if len(inputs) == 1:
        return inputs[0]
    names = ", ".join(repr(tensor.name) for tensor in inputs)
    raise HttpError(400, f"the model has {len(inputs)} inputs: send objects with {names}")


def named_row(row: object, inputs: Inputs) -> dict[str, Any]:
    """`row` if it has a value for each input, and no others; 400 otherwise."""
    wanted = {tensor.name for tensor in inputs}
    if not isinstance(row, dict) or not is_named(row):
        raise HttpError(400, "either all instances are objects by input name, or none is")
    if row.keys() != wanted:
        given = ", ".join(repr(name[:100]) for name in list(row)[:20])
        names = ", ".join(repr(tensor.name) for tensor in inputs)
        raise HttpError(400, f"the model takes {names}; the object has {given or 'nothing'}")
    return row


def array(value: object, tensor: TensorSpec, finite: bool = True, rows: bool = False) -> Any:
    """Nested lists in the input's element type and shape; `rows`: any number of them. 400 names the input."""
    where = f"input {tensor.name!r}"
    shape, leaves = _flat(value, len(tensor.shape) + 1, where)
    if not _fits(shape, tensor.shape, rows):
        raise HttpError(
            400, f"{where}: the values have shape {list(shape)}, not {shape_json(tensor.shape)}"
        )
    check_empty(shape, where)
    return _elements(leaves, tensor, finite).reshape(shape)


def _features(values: list[Any], tensor: TensorSpec, finite: bool) -> Any:
    rows = [value if isinstance(value, list) else [value] for value in values]
    if rows[0] and isinstance(rows[0][0], list):
        return array(rows, tensor, finite, rows=True)
    where, sample = f"input {tensor.name!r}", tensor.shape[1:]
    (count, size), leaves = _flat(rows, 2, where)
    known = math.prod(axis for axis in sample if axis is not None)
    unknown = sample.count(None)
    if unknown > 1 or not size or (size % known if unknown and known else size != known):
        wanted = shape_json(sample)
        raise HttpError(400, f"{where}: {size} values a row do not make up shape {wanted}")
    shape = [size // known if axis is None else axis for axis in sample]
    return _elements(leaves, tensor, finite).reshape(count, *shape)


def _elements(leaves: list[Any], tensor: TensorSpec, finite: bool) -> Any:
    where = f"input {tensor.name!r}"
    if tensor.dtype in ("bfloat16", "complex64"):
        raise HttpError(
            400, f"{where}: {tensor.dtype} has no JSON form: use /v2 with binary tensors"
        )
    dtype = np.dtype(object if tensor.dtype == "string" else tensor.dtype)
    if dtype.kind == "O":
        leaves = [_text(leaf, where) for leaf in leaves]
    allowed, wording = ELEMENTS[dtype.kind]
    if not set(map(type, leaves)) <= allowed:
        if any(is_base64(leaf) for leaf in leaves):
            wording += "; b64 is for texts, and for images where the spec declares preprocessing"
        raise HttpError(400, f"{where}: the values must be {wording}")
    return typed(leaves, dtype, where, finite)


def _text(leaf: object, where: str) -> object:
    if not isinstance(leaf, dict) or not is_base64(leaf):
        return leaf
    try:
        return decoded(leaf).decode()
    except UnicodeDecodeError:
        raise HttpError(400, f"{where}: the model takes text, and this is not UTF-8") from None


def _flat(value: object, deepest: int, where: str) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and elements of nested lists; lists below `deepest` are taken for elements."""
    shape: list[int] = []
    leaves: list[Any] = [value]
    while leaves and len(shape) < deepest and isinstance(leaves[0], list):
        size = len(leaves[0])
        if any(not isinstance(row, list) or len(row) != size for row in leaves):
            raise HttpError(400, f"{where}: the lists are not all equally long")
        shape.append(size)
        leaves = [item for row in leaves for item in row]
    return tuple(shape), leaves


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...], rows: bool) -> bool:
    return len(shape) == len(wanted) and all(
        want is None or want == size or (rows and place == 0)
        for place, (size, want) in enumerate(zip(shape, wanted, strict=True))
    )
