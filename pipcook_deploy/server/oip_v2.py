"""Open Inference Protocol v2, REST with JSON (kserve/open-inference-protocol).

The tensors of `infer` are the model's own: no preprocessing is applied, which is what distinguishes
it from /predict. Parameters are accepted and ignored.
"""

from importlib.metadata import version
from typing import Any

import orjson

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.app import Context
from pipcook_deploy.server.http import JSON, Answer, HttpError, Request, json_answer
from pipcook_deploy.server.tensor_json import datatype, read_tensor, shape_json, write_tensor
from pipcook_deploy.spec import TensorSpec


async def server(context: Context, request: Request) -> Answer:
    """GET /v2."""
    return json_answer(
        {"name": "pipcook-deploy", "version": version("pipcook-deploy"), "extensions": []}
    )


async def live(context: Context, request: Request) -> Answer:
    """GET /v2/health/live."""
    return json_answer({"live": True})


async def ready(context: Context, request: Request) -> Answer:
    """GET /v2/health/ready: 503 while draining."""
    return json_answer({"ready": not context.draining}, 503 if context.draining else 200)


async def model(context: Context, request: Request, **names: str) -> Answer:
    """GET /v2/models/{name}[/versions/{version}]."""
    spec = _known(context, names)
    return json_answer(
        {
            "name": spec.name,
            "versions": [spec.version],
            "platform": context.predictor.engine.platform,
            "inputs": [_described(tensor) for tensor in spec.inputs],
            "outputs": [_described(tensor) for tensor in spec.outputs],
        }
    )


async def model_ready(context: Context, request: Request, **names: str) -> Answer:
    """GET /v2/models/{name}[/versions/{version}]/ready."""
    spec = _known(context, names)
    state = {"name": spec.name, "ready": not context.draining}
    return json_answer(state, 503 if context.draining else 200)


async def infer(context: Context, request: Request, **names: str) -> Answer:
    """POST /v2/models/{name}[/versions/{version}]/infer."""
    _known(context, names)
    if request.media_type not in ("", JSON):
        raise HttpError(415, f"infer takes {JSON}, not {request.media_type}")
    body = await request.body()
    return await context.compute(lambda: _infer(context, body))


def error(status: int, reason: str) -> Answer:
    """The protocol's error body."""
    return json_answer({"error": reason}, status)


def _infer(context: Context, body: bytes) -> Answer:
    message = _parsed(body)
    spec = context.predictor.spec
    wanted = _requested(message.get("outputs"), spec.outputs)
    outputs = context.predictor.infer(_inputs(message, context))
    answer: dict[str, Any] = {"model_name": spec.name, "model_version": spec.version}
    if "id" in message:
        answer["id"] = message["id"]
    answer["outputs"] = [write_tensor(name, outputs[name]) for name in wanted]
    return json_answer(answer)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise HttpError(400, "the body must be a JSON object")
    if not isinstance(message.get("id", ""), str):
        raise HttpError(400, "id must be a string")
    if not isinstance(message.get("parameters", {}), dict):
        raise HttpError(400, "parameters must be an object")
    return message


def _inputs(message: dict[str, Any], context: Context) -> Tensors:
    specs = {tensor.name: tensor for tensor in context.predictor.spec.inputs}
    rows = _named(message.get("inputs"), specs, "input")
    missing = [name for name in specs if name not in rows]
    if missing:
        raise HttpError(400, f"missing input: {', '.join(map(repr, missing))}")
    rank = context.settings.max_nesting
    tensors = {name: read_tensor(row, specs[name], rank) for name, row in rows.items()}
    return {name: tensors[name] for name in specs}


def _requested(rows: object, outputs: tuple[TensorSpec, ...]) -> list[str]:
    specs = {tensor.name: tensor for tensor in outputs}
    return list(specs if rows in (None, []) else _named(rows, specs, "output"))


def _named(rows: object, known: dict[str, TensorSpec], kind: str) -> dict[str, dict[str, Any]]:
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


def _known(context: Context, names: dict[str, str]) -> Any:
    spec = context.predictor.spec
    if names["name"] != spec.name:
        raise HttpError(404, f"there is no model {names['name'][:100]!r}; there is {spec.name!r}")
    if names.get("version", spec.version) != spec.version:
        raise HttpError(
            404, f"{spec.name} has version {spec.version!r}, not {names['version'][:50]!r}"
        )
    return spec


def _described(tensor: TensorSpec) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": datatype(tensor.dtype),
        "shape": shape_json(tensor.shape),
    }
