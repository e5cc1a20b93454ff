"""`instances` and `inputs` of plain numbers, read without making a Python object of each.

What is unusual in any way is left to `instances`, whose answers and messages count; both accept the same.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.tensors import fast_json
from pipcook_deploy.spec import TensorSpec

KEYS = ("instances", "inputs")
NO_STRUCTURE = bytes(set(range(256)) - set(b"[],"))


@dataclass(slots=True)
class Plain:
    """`key`: which of the two forms. `rest`: the request's other keys."""

    key: str
    tensors: Tensors
    rest: dict[str, Any]


def read(body: bytes, inputs: tuple[TensorSpec, ...]) -> Plain | None:
    """None if anything is not as plain as it could be."""
    document = fast_json.parse(body)
    if document is None:
        return None
    try:
        return _read(document, body, inputs)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        return None


def _read(document: Any, body: bytes, inputs: tuple[TensorSpec, ...]) -> Plain | None:
    rest = {}
    key, value = "", None
    for name in document:
        if name not in KEYS:
            rest[name] = _plain(document[name])
        elif not key:
            key, value = name, document[name]
        else:
            return None
    if value is None:
        return None
    if hasattr(value, "as_buffer"):
        if len(inputs) != 1:
            return None
        named = {inputs[0].name: value}
    else:
        named = {name: value[name] for name in value} if _columns(key, value, inputs) else {}
    shapes = {name: _shape(view, len(body)) for name, view in named.items()}
    # The shapes are told by the first elements; the brackets and commas of the body tell about all others.
    skeleton = b",".join([_brackets(shape) for shape in shapes.values()])
    if body.translate(None, NO_STRUCTURE).strip(b",") != skeleton or len(named) != len(inputs):
        return None
    tensors = {}
    for tensor in inputs:
        found = _array(named[tensor.name], shapes[tensor.name], tensor, key == "instances")
        if found is None:
            return None
        tensors[tensor.name] = found
    return Plain(key, tensors, rest)


def _columns(key: str, value: Any, inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether it may be an object of the inputs. Others may have any number of keys, each of which is searched for."""
    return key == "inputs" and len(value) == len(inputs)


def _plain(value: Any) -> Any:
    return value.as_dict() if hasattr(value, "as_dict") else value


def _shape(view: Any, limit: int) -> list[int]:
    shape = []
    while hasattr(view, "as_buffer"):
        shape.append(len(view))
        view = view[0]
    if math.prod(shape) > limit:
        raise ValueError("so many numbers do not fit the body")
    return shape


def _brackets(shape: list[int]) -> bytes:
    """What is left of a tensor in JSON without its numbers: [[,],[,]] for [2, 2]."""
    text = b"[" + b"," * (shape[-1] - 1) + b"]"
    for size in shape[-2::-1]:
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _array(view: Any, shape: list[int], tensor: TensorSpec, rows: bool) -> Any:
    dtype = fast_json.NUMBERS.get(tensor.dtype)
    wanted = tensor.shape
    if dtype is None or len(wanted) != len(shape):
        return None
    for place, (size, want) in enumerate(zip(shape, wanted, strict=True)):
        if want is not None and want != size and (place or not rows):
            return None
    spelled, wide = fast_json.BUFFERS[dtype.kind]
    flat = np.frombuffer(view.as_buffer(of_type=spelled), wide)
    narrow = fast_json.narrowed(flat, dtype)
    return None if narrow is None else narrow.reshape(shape)
