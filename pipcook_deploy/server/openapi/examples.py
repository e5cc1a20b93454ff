"""Example requests for a loaded model: right in form, whatever the model is."""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipcook_deploy.preprocess.operations import Operation
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.tensors.datatypes import NO_JSON, datatype
from pipcook_deploy.spec import TensorSpec

ELEMENTS = 4096  # more than this is no example that anyone reads


def value_of(tensor: TensorSpec, kind: str, operations: Sequence[Operation]) -> Any:
    """One sample of an input as /predict takes it in JSON; None if it is too large."""
    if kind == "image":
        return base64.b64encode(grey_png(*_needed(operations))).decode()
    if kind == "text":
        return "some words"
    shape = _shape(tensor)[1:]
    lone = shape in ((), (1,))
    return _filled(tensor, () if lone else shape)


def predict_example(found: LoadedModel) -> dict[str, Any] | None:
    """The JSON body of /predict; None if the model cannot be asked so."""
    kinds, inputs = found.predictor.kinds, found.spec.inputs
    declared = found.spec.preprocessing
    values = {t.name: value_of(t, kinds[t.name], declared.get(t.name, ())) for t in inputs}
    if not found.predictor.takes or None in values.values():
        return None
    if found.predictor.takes in ("image", "text"):
        return {found.predictor.takes: values[inputs[0].name]}
    return {"row": values}


def infer_example(found: LoadedModel) -> dict[str, Any] | None:
    """The JSON body of the Open Inference Protocol's infer; None if it would be too large or has no JSON."""
    rows = [_tensor(tensor) for tensor in found.spec.inputs]
    return None if None in rows or not rows else {"inputs": rows}


def instances_example(found: LoadedModel) -> dict[str, Any] | None:
    """A JSON body with one row of the model's own tensors; None if it would be too large."""
    inputs = found.spec.inputs
    values = {t.name: _filled(t, _shape(t)[1:]) for t in inputs if t.shape}
    if len(values) < len(inputs) or None in values.values():
        return None
    return {"instances": [values if len(values) > 1 else values[inputs[0].name]]}


def grey_png(height: int, width: int) -> bytes:
    """The smallest picture of its size."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = (b"\0" + b"\xaa" * ((width + 7) // 8)) * height
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _needed(operations: Sequence[Operation]) -> tuple[int, int]:
    """Height and width: a crop before any resize cannot do with less."""
    for operation in operations:
        if operation.op == "center_crop":
            return operation.height, operation.width
        if operation.op == "resize":
            break
    return 1, 1


def _tensor(tensor: TensorSpec) -> dict[str, Any] | None:
    shape, spelled = _shape(tensor), datatype(tensor.dtype)
    data = None if spelled in NO_JSON else _filled(tensor, shape)
    if data is None:
        return None
    return {"name": tensor.name, "shape": list(shape), "datatype": spelled, "data": data}


def _shape(tensor: TensorSpec) -> tuple[int, ...]:
    """With 1 for what is dynamic."""
    return tuple(size or 1 for size in tensor.shape)


def _filled(tensor: TensorSpec, shape: tuple[int, ...]) -> Any:
    if np.prod(shape, dtype=np.int64) > ELEMENTS:
        return None
    one = {"string": "text", "bool": False}.get(tensor.dtype, 0)
    one = 0.0 if tensor.dtype.startswith(("float", "bfloat")) else one
    return np.full(shape, one, dtype=object).tolist()
