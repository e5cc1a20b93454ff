"""Every way in which platforms ask a server: each puts the golden samples' tensors into its own words and back.

Paths and bodies: the Open Inference Protocol with Triton's binary extension, TF Serving's REST API, SageMaker,
MLflow, Azure ML, Vertex AI, Function Compute; docs/serving-protocols.md has them with examples.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from pipcook_deploy.errors import BootError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.tensors.datatypes import NO_JSON, array_type, datatype
from pipcook_deploy.spec import ModelSpec, TensorSpec

OCTETS = {"content-type": "application/octet-stream"}
HEAD_LENGTH = "inference-header-content-length"
LENGTH = 4  # bytes before each text of a binary tensor

Ask = Callable[[Server, ModelSpec, Tensors], Tensors]


@dataclass(frozen=True)
class Contract:
    """A way to ask: `ask` gives outputs by name for inputs by name. `binary` needs no JSON form of the tensors."""

    name: str
    ask: Ask
    binary: bool = False

    def unfit(self, spec: ModelSpec, inputs: Tensors, outputs: Tensors) -> str | None:
        """Why these samples cannot be said in JSON; None if they can."""
        if self.binary:
            return None
        tensors = (*spec.inputs, *spec.outputs)
        if odd := [tensor.name for tensor in tensors if datatype(tensor.dtype) in NO_JSON]:
            return f"{odd[0]!r} has no JSON form"
        for name, value in (*inputs.items(), *outputs.items()):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return f"{name!r} has NaN or infinities, which JSON has not"
        return None


def oip_json(server: Server, spec: ModelSpec, inputs: Tensors) -> Tensors:
    """POST /v2/models/NAME/infer with numbers as JSON."""
    rows = [
        _row(tensor, inputs) | {"data": inputs[tensor.name].ravel().tolist()}
        for tensor in spec.inputs
    ]
    answer = server.post(_infer(spec), json.dumps({"inputs": rows}).encode()).json()
    return {
        row["name"]: _array(row["data"], spec, row["name"], row["shape"])
        for row in answer["outputs"]
    }


def oip_binary(server: Server, spec: ModelSpec, inputs: Tensors) -> Tensors:
    """The same with tensors as bytes behind a JSON head, both ways."""
    path, body, headers = binary_request(spec, inputs)
    reply = server.post(path, body, headers)
    return binary_answer(spec, reply.body, reply.headers.get(HEAD_LENGTH))


def binary_answer(spec: ModelSpec, body: bytes, length: str | None) -> Tensors:
    """The tensors behind a JSON head of so many bytes. Raises `LookupError`, `TypeError`, `ValueError`, `BootError`."""
    at = int(length or "")
    found = {}
    for row in json.loads(body[:at])["outputs"]:
        size = row["parameters"]["binary_data_size"]
        found[row["name"]] = _from_bytes(body[at : at + size], spec, row["name"], row["shape"])
        at += size
    return found


def binary_request(spec: ModelSpec, inputs: Tensors) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request with tensors as bytes."""
    parts = [_bytes(inputs[tensor.name], tensor.dtype) for tensor in spec.inputs]
    rows = [
        _row(tensor, inputs) | {"parameters": {"binary_data_size": len(part)}}
        for tensor, part in zip(spec.inputs, parts, strict=True)
    ]
    document = {"inputs": rows, "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    return _infer(spec), head + b"".join(parts), OCTETS | {HEAD_LENGTH: str(len(head))}


def rows_at(path: str, headers: dict[str, str] | None = None) -> Ask:
    """`{"instances": [...]}` to a path, `{"predictions": [...]}` back; `{name}` is the model's."""

    def ask(server: Server, spec: ModelSpec, inputs: Tensors) -> Tensors:
        body = json.dumps({"instances": _instances(spec, inputs)}).encode()
        answer = server.post(path.format(name=quote(spec.name, safe="")), body, headers)
        return _predictions(answer.json()["predictions"], spec)

    return ask


COMMON = (
    Contract("Open Inference Protocol, binary", oip_binary, binary=True),
    Contract("Open Inference Protocol, JSON", oip_json),
    Contract("TF Serving :predict", rows_at("/v1/models/{name}:predict")),
    Contract("SageMaker, MLflow /invocations", rows_at("/invocations")),
    Contract("Azure ML /score", rows_at("/score")),
)
EVENT = Contract("Function Compute /invoke", rows_at("/invoke", OCTETS))


def vertex(path: str) -> Contract:
    """Vertex AI's, whose path it chooses."""
    return Contract("Vertex AI AIP_PREDICT_ROUTE", rows_at(path))


def label_of(server: Server, encoded: bytes) -> tuple[int, str]:
    """Send a file as callers do; the place and the name of the class that comes back. Raises `BootError`."""
    answer = server.post("/predict", encoded, OCTETS).json()
    try:
        item = answer["data"][0]
        return int(item["id"]), str(item["category"])
    except (LookupError, TypeError, ValueError) as error:
        raise BootError(f"POST /predict: the answer has another form: {error!r}") from error


def _infer(spec: ModelSpec) -> str:
    return f"/v2/models/{quote(spec.name, safe='')}/infer"


def _row(tensor: TensorSpec, inputs: Tensors) -> dict[str, Any]:
    shape = list(inputs[tensor.name].shape)
    return {"name": tensor.name, "datatype": datatype(tensor.dtype), "shape": shape}


def _instances(spec: ModelSpec, inputs: Tensors) -> list[Any]:
    names = [tensor.name for tensor in spec.inputs]
    rows = zip(*(inputs[name].tolist() for name in names), strict=True)
    if len(names) == 1:
        return [row[0] for row in rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _predictions(rows: list[Any], spec: ModelSpec) -> Tensors:
    names = [tensor.name for tensor in spec.outputs]
    columns = {names[0]: rows} if len(names) == 1 else {n: [row[n] for row in rows] for n in names}
    return {name: _array(values, spec, name) for name, values in columns.items()}


def _array(values: Any, spec: ModelSpec, name: str, shape: list[int] | None = None) -> Any:
    array = np.array(values, dtype=array_type(_output(spec, name).dtype))
    return array if shape is None else array.reshape(shape)


def _output(spec: ModelSpec, name: str) -> TensorSpec:
    for tensor in spec.outputs:
        if tensor.name == name:
            return tensor
    raise BootError(f"the answer has an output {name!r} that the model has not")


def _bytes(value: Any, dtype: str) -> bytes:
    if dtype != "string":
        return np.ascontiguousarray(value).tobytes()
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in value.ravel()]
    return b"".join(len(text).to_bytes(LENGTH, "little") + text for text in texts)


def _from_bytes(data: bytes, spec: ModelSpec, name: str, shape: list[int]) -> Any:
    dtype = _output(spec, name).dtype
    if dtype != "string":
        return np.frombuffer(data, array_type(dtype)).reshape(shape)
    texts, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + LENGTH], "little")
        texts.append(data[at + LENGTH : at + LENGTH + size].decode("utf-8", "surrogateescape"))
        at += LENGTH + size
    return np.array(texts, dtype=object).reshape(shape)
