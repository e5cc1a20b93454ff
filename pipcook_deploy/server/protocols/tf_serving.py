"""TF Serving's REST API: predict in row and column form, classify, regress, status and metadata.

Source: tensorflow/serving, g3doc/api_rest.md and util/json_tensor.cc. Any content type is taken for JSON, as there.
`GET /v1/models` is not TF Serving's but KServe's.
"""

from typing import Any

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, HttpError, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols import instances
from pipcook_deploy.server.protocols.instances import Asked
from pipcook_deploy.server.protocols.tf_serving_examples import read_examples, regression, results
from pipcook_deploy.server.protocols.tf_serving_metadata import metadata_of, status_of
from pipcook_deploy.server.tensors import nonfinite
from pipcook_deploy.server.tensors.instances_answer import to_columns, to_rows

Chosen = dict[str, str]  # "version" or "label", or nothing


async def predict(context: Context, request: Request, name: str, **chosen: str) -> Answer:
    """POST /v1/models/{name}[/versions/{version}|/labels/{label}]:predict."""
    found = request.model = _model(context, name, chosen)
    tokens = nonfinite.wanted(request)
    asked = await instances.read(context, await request.body(), found, _read_predict, tokens)
    wanted = instances.wanted_outputs(found.spec, asked.rest.get("signature_name"))
    outcome = await instances.run(context, request, found, asked)
    outputs = {tensor.name: outcome.outputs[tensor.name] for tensor in wanted}

    def value() -> object:
        if asked.rows:
            return {"predictions": to_rows(outputs)}
        return {"outputs": to_columns(outputs)}

    return await instances.answered(context, instances.size_of(outputs), value, tokens)


async def classify(context: Context, request: Request, name: str, **chosen: str) -> Answer:
    """POST ...:classify: [label, score] of each class, in the model's order."""
    return await _examples(context, request, _model(context, name, chosen), results)


async def regress(context: Context, request: Request, name: str, **chosen: str) -> Answer:
    """POST ...:regress: one number for each example."""
    return await _examples(context, request, _model(context, name, chosen), regression)


async def status(context: Context, request: Request, name: str, **chosen: str) -> Answer:
    """GET /v1/models/{name}[/versions/{version}|/labels/{label}]: 503 while draining."""
    if chosen:
        versions = [_model(context, name, chosen).version]
    else:
        versions = list(context.registry.entry(name).versions)
    return json_answer(status_of(versions, context.draining), 503 if context.draining else 200)


async def metadata(context: Context, request: Request, name: str, **chosen: str) -> Answer:
    """GET /v1/models/{name}[/versions/{version}|/labels/{label}]/metadata."""
    return json_answer(metadata_of(_model(context, name, chosen).spec))


async def models(context: Context, request: Request) -> Answer:
    """GET /v1/models."""
    entries = context.registry.entries
    return json_answer({"models": [name for name, entry in entries.items() if entry.versions]})


def error(status: int, reason: str) -> Answer:
    """The protocol's error body."""
    return json_answer({"error": reason}, status)


def _model(context: Context, name: str, chosen: Chosen) -> LoadedModel:
    return context.registry.resolve(name, chosen.get("version"), chosen.get("label"))


def _read_predict(document: dict[str, Any], found: LoadedModel, finite: bool) -> Asked:
    keys = [key for key in ("instances", "inputs") if key in document]
    if not keys:
        raise HttpError(400, "Missing 'inputs' or 'instances' key")
    if len(keys) > 1:
        raise HttpError(400, "expecting only one of 'inputs' or 'instances' keys to exist")
    asked = instances.from_key(keys[0], document[keys[0]], found, finite)
    asked.rest = document
    return asked


async def _examples(context: Context, request: Request, found: LoadedModel, write: Any) -> Answer:
    request.model = found
    tokens = nonfinite.wanted(request)
    asked = await instances.parse(context, await request.body(), found, read_examples, tokens)
    instances.wanted_outputs(found.spec, asked.rest.get("signature_name"))
    outcome = await instances.run(context, request, found, asked)
    size = instances.size_of(outcome.outputs)
    return await instances.answered(
        context, size, lambda: {"results": write(found, outcome)}, tokens
    )


_MODEL = "/v1/models/{name}"
_BASES = (_MODEL + "/versions/{version}", _MODEL + "/labels/{label}", _MODEL)

ROUTES: Routes = [
    ("GET", "/v1/models", models),
    # The shorter paths last: {name} takes in what follows a colon.
    *[("POST", f"{base}:predict", predict) for base in _BASES],
    *[("POST", f"{base}:classify", classify) for base in _BASES],
    *[("POST", f"{base}:regress", regress) for base in _BASES],
    *[("GET", f"{base}/metadata", metadata) for base in _BASES],
    *[("GET", base, status) for base in _BASES],
]
