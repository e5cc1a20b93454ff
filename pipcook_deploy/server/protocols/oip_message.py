"""A request of the Open Inference Protocol, from JSON or JSON with binary tensors after it."""

from typing import Any

import orjson

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Request
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols.oip_head import BinaryHead, Message, Place
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.server.tensors import fast_json
from pipcook_deploy.server.tensors.strict_json import check_datatype, fitting_shape, read_tensor
from pipcook_deploy.spec import ModelSpec, TensorSpec

MICROSECONDS = 1e-6
KEPT_HEAD = 4096  # bytes of a head that is kept
KEPT_HEADS = 256  # of one model
LONGEST_COMMAND = 65_536


def read_message(body: bytes, length: str, model: LoadedModel, settings: Settings) -> Message:
    """Raises 400 for what is malformed. `length` is that of the JSON if binary tensors follow it, or ""."""
    spec = model.spec
    if length:
        return _binary(body, length, model, settings)
    document = fast_json.parse(body)
    if document is not None:
        inputs = model.reader.read(document)
        if inputs is not None:
            if len(document) == 1:
                return Message(inputs, model.all_outputs)
            head = {key: _plain(document[key]) for key in document if key != "inputs"}
            if len(head) == len(document) - 1:  # no key is there twice
                return _message(head, inputs, spec)
    head = parsed(body)
    return _message(head, _inputs(head, spec, settings), spec)


def parsed(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object; 400 for anything else."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise HttpError(400, "the body must be a JSON object")
    return message


async def parsed_command(request: Request) -> dict[str, Any]:
    """The body of a request that steers the server, {} without one; 413 for more than anyone has to say."""
    body = await request.body()
    if len(body) > LONGEST_COMMAND:
        raise HttpError(413, f"the body is larger than {LONGEST_COMMAND} bytes")
    return parsed(body) if body else {}


def named_rows(rows: object, known: dict[str, TensorSpec], kind: str) -> dict[str, dict[str, Any]]:
    """Rows by name; 400 for what is no list of objects, unknown, or there twice."""
    if not isinstance(rows, list) or not rows:
        raise HttpError(400, f"{kind}s must be a list of objects, and not empty")
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise HttpError(400, f"each of the {kind}s must be an object with a name")
        name = row["name"]
        if name not in known:
            has = ", ".join(map(repr, known))
            raise HttpError(400, f"unknown {kind} {name[:100]!r}: the model has {has}")
        if name in found:
            raise HttpError(400, f"duplicate {kind} {name!r}")
        found[name] = row
    return found


def _plain(value: Any) -> Any:
    """Of a lazy view, what it shows."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return value.as_list() if hasattr(value, "as_list") else value


def _binary(body: bytes, length: str, model: LoadedModel, settings: Settings) -> Message:
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > len(body) or length[20:]:
        raise HttpError(
            400,
            f"Inference-Header-Content-Length {length[:50]!r} does not fit a body of {len(body)}",
        )
    text = body[: int(length)]
    # Clients send the same head again and again: what it says is kept.
    head = model.heads.get(text)
    if head is None:
        head = _read_head(text, model.spec, settings)
        if len(text) <= KEPT_HEAD and not head.values:
            if len(model.heads) >= KEPT_HEADS:
                model.heads.clear()
            model.heads[text] = head
    return head.message(body, len(text))


def _read_head(text: bytes, spec: ModelSpec, settings: Settings) -> BinaryHead:
    said = parsed(text)
    rows = _rows(said, spec)
    values: Tensors = {}
    places: list[Place] = []
    start = 0
    for tensor in spec.inputs:
        row = rows[tensor.name]
        if _binary_size(row, tensor.name) is None:
            values[tensor.name] = _read(row, tensor, settings)
    for name, row in rows.items():  # in the request's order, which is that of the bytes
        size = _binary_size(row, name)
        if size is not None:
            places.append(_place(row, start, size, spec, settings))
            start += size
    message = _message(said, values, spec)
    names = tuple(tensor.name for tensor in spec.inputs)
    return BinaryHead(names, values, tuple(places), start, message)


def _place(
    row: dict[str, Any], start: int, size: int, spec: ModelSpec, settings: Settings
) -> Place:
    (tensor,) = (tensor for tensor in spec.inputs if tensor.name == row["name"])
    check_datatype(row.get("datatype"), tensor)
    shape = fitting_shape(row.get("shape"), tensor, settings.max_nesting, settings.max_elements)
    return Place(tensor, shape, start, size)


def _read(row: dict[str, Any], tensor: TensorSpec, settings: Settings) -> Any:
    return read_tensor(row, tensor, settings.max_nesting, settings.max_elements)


def _message(head: dict[str, Any], inputs: Tensors, spec: ModelSpec) -> Message:
    given, parameters = head.get("id"), head.get("parameters", {})
    if given is not None and not isinstance(given, str):
        raise HttpError(400, "id must be a string")
    if not isinstance(parameters, dict):
        raise HttpError(400, "parameters must be an object")
    binary = parameters.get("binary_data_output", False)
    outputs = _requested(head.get("outputs"), spec, binary is True)
    return Message(inputs, outputs, given, _timeout(parameters))


def _timeout(parameters: dict[str, Any]) -> float:
    """Triton's `timeout`, in microseconds."""
    given = parameters.get("timeout", 0)
    if type(given) is not int or given < 0:
        raise HttpError(400, "timeout must be microseconds, a whole number")
    return given * MICROSECONDS


def _requested(rows: object, spec: ModelSpec, binary: bool) -> dict[str, bool]:
    specs = {tensor.name: tensor for tensor in spec.outputs}
    if rows in (None, []):
        return dict.fromkeys(specs, binary)
    wanted = {}
    for name, row in named_rows(rows, specs, "output").items():
        parameters = row.get("parameters", {})
        if not isinstance(parameters, dict):
            raise HttpError(400, f"output {name!r}: parameters must be an object")
        wanted[name] = parameters.get("binary_data", binary) is True
    return wanted


def _inputs(head: dict[str, Any], spec: ModelSpec, settings: Settings) -> Tensors:
    rows = _rows(head, spec)
    for name, row in rows.items():
        if _binary_size(row, name) is not None:
            raise HttpError(
                400,
                f"input {name!r}: is binary, but the header Inference-Header-Content-Length is missing",
            )
    return {tensor.name: _read(rows[tensor.name], tensor, settings) for tensor in spec.inputs}


def _rows(head: dict[str, Any], spec: ModelSpec) -> dict[str, dict[str, Any]]:
    specs = {tensor.name: tensor for tensor in spec.inputs}
    rows = named_rows(head.get("inputs"), specs, "input")
    missing = [name for name in specs if name not in rows]
    if missing:
        raise HttpError(400, f"missing input: {', '.join(map(repr, missing))}")
    return rows


def _binary_size(row: dict[str, Any], name: str) -> int | None:
    """Bytes of an input that is binary; None for one that is JSON."""
    parameters = row.get("parameters", {})
    if not isinstance(parameters, dict):
        raise HttpError(400, f"input {name!r}: parameters must be an object")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise HttpError(400, f"input {name!r}: binary_data_size must be a whole number")
    if "data" in row:
        raise HttpError(400, f"input {name!r}: has both data and binary_data_size")
    return size
