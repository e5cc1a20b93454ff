"""ModelInferRequest to the model's tensors, and its tensors to ModelInferResponse."""

import math
from collections.abc import Sequence
from typing import Any

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.grpc.contents import from_contents, to_contents
from pipcook_deploy.server.grpc.messages import messages
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols.oip_head import Message
from pipcook_deploy.server.protocols.oip_message import MICROSECONDS
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.server.tensors.datatypes import spelled
from pipcook_deploy.server.tensors.raw import from_raw, to_raw
from pipcook_deploy.server.tensors.strict_json import check_datatype, fitting_shape
from pipcook_deploy.spec import ModelSpec, TensorSpec


def read_request(request: Any, spec: ModelSpec, settings: Settings) -> Message:
    """Raises 400 for what is malformed. Outputs are wanted raw if the inputs are."""
    inputs = _inputs(request, spec, settings)
    raw = bool(request.raw_input_contents)
    known = {tensor.name: tensor for tensor in spec.outputs}
    wanted = list(_by_name(request.outputs, known, "output")) or list(known)
    return Message(inputs, dict.fromkeys(wanted, raw), request.id, _timeout(request.parameters))


def write_response(model: LoadedModel, message: Message, outputs: Tensors) -> Any:
    """The wanted outputs in the wanted order, raw if they are wanted so or have no typed form."""
    response = messages()["ModelInferResponse"](
        model_name=model.name, model_version=model.version, id=message.id or ""
    )
    raw = any(message.outputs.values()) or any(
        spelled(outputs[name]) in ("FP16", "BF16") for name in message.outputs
    )
    for name in message.outputs:
        value = outputs[name]
        row = response.outputs.add(name=name, datatype=spelled(value), shape=value.shape)
        if raw:
            response.raw_output_contents.append(to_raw(value))
        else:
            to_contents(value, row.contents)
    return response


def elements(request: Any) -> int:
    """How many elements the request says it has: what it takes to read it."""
    return sum(math.prod(row.shape) for row in request.inputs)


def _inputs(request: Any, spec: ModelSpec, settings: Settings) -> Tensors:
    specs = {tensor.name: tensor for tensor in spec.inputs}
    rows = _by_name(request.inputs, specs, "input")
    missing = [name for name in specs if name not in rows]
    if missing:
        raise HttpError(400, f"missing input: {', '.join(map(repr, missing))}")
    raw = request.raw_input_contents
    if raw and len(raw) != len(rows):
        raise HttpError(
            400,
            f"raw_input_contents has {len(raw)} tensors for {len(rows)} inputs: all are raw, or none",
        )
    parts = raw or [None] * len(rows)
    tensors = {
        name: _tensor(row, part, specs[name], settings)
        for (name, row), part in zip(rows.items(), parts, strict=True)
    }
    return {name: tensors[name] for name in specs}


def _tensor(row: Any, raw: bytes | None, tensor: TensorSpec, settings: Settings) -> Any:
    check_datatype(row.datatype, tensor)
    shape = fitting_shape(list(row.shape), tensor, settings.max_nesting)
    if math.prod(shape) > settings.max_elements:
        raise HttpError(
            400, f"input {tensor.name!r}: more than {settings.max_elements} elements are not taken"
        )
    if raw is None:
        return from_contents(row.contents, tensor, shape)
    if row.HasField("contents"):
        raise HttpError(400, f"input {tensor.name!r}: has both contents and raw_input_contents")
    return from_raw(memoryview(raw), tensor, shape)


def _by_name(rows: Sequence[Any], known: dict[str, TensorSpec], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        if row.name not in known:
            has = ", ".join(map(repr, known))
            raise HttpError(400, f"unknown {kind} {row.name[:100]!r}: the model has {has}")
        if row.name in found:
            raise HttpError(400, f"duplicate {kind} {row.name!r}")
        found[row.name] = row
    return found


def _timeout(parameters: Any) -> float:
    """Triton's `timeout`, in microseconds; as seconds."""
    if "timeout" not in parameters:  # asking for it by [] would add it
        return 0.0
    given = parameters["timeout"]
    field = given.WhichOneof("parameter_choice")
    value = getattr(given, field) if field in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise HttpError(400, "timeout must be microseconds, a whole number")
    return float(value) * MICROSECONDS
