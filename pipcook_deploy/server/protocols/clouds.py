"""Vertex AI, whose routes come from the environment, and Function Compute's event functions.

Vertex: {"instances": [...], "parameters": {"top": 3}} -> {"predictions": [...]}; with `top`, each prediction is a
list of {"id", "category", "score"}. Function Compute sends events as application/octet-stream whatever they are.
"""

from collections.abc import Mapping
from functools import wraps
from typing import Any

from pipcook_deploy.errors import UsageError
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.server.app import Context, Handler, Routes
from pipcook_deploy.server.http import JSON, Answer, HttpError, Request
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols import instances, mlflow, tf_serving
from pipcook_deploy.server.protocols.instances import Asked
from pipcook_deploy.server.tensors import nonfinite
from pipcook_deploy.server.tensors.instances_answer import to_rows

HEALTH_ROUTE, PREDICT_ROUTE = "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"
BLANK = b" \t\r\n"


def environment_routes(environ: Mapping[str, str], others: Routes) -> Routes:
    """Vertex AI's routes where `environ` names them.

    A predict route that is one of `others` already (/predict) keeps what is no JSON for that one.
    """
    routes: Routes = []
    health_path, predict_path = _path(environ, HEALTH_ROUTE), _path(environ, PREDICT_ROUTE)
    if health_path:
        routes.append(("GET", health_path, health))
    if predict_path:
        taken = [h for method, path, h in others if (method, path) == ("POST", predict_path)]
        routes.append(("POST", predict_path, _beside(taken[-1]) if taken else predict))
    return routes


async def health(context: Context, request: Request) -> Answer:
    """GET AIP_HEALTH_ROUTE: 503 while draining, and while no model is loaded."""
    return Answer(200 if context.ready else 503, b"")


async def predict(context: Context, request: Request) -> Answer:
    """POST AIP_PREDICT_ROUTE."""
    try:
        return await _predict(context, request)
    except HttpError as error:
        worded = tf_serving.error(error.status, error.reason)
        return Answer(worded.status, worded.body, worded.content_type, error.headers)
    except PreprocessingError as error:
        return tf_serving.error(400, str(error).replace("\n", "; "))


async def initialize(context: Context, request: Request) -> Answer:
    """POST /initialize: the models are loaded before the port is open."""
    return Answer(200, b"", headers={"x_fc_status": "200"})


async def invoke(context: Context, request: Request) -> Answer:
    """POST /invoke: an event that is JSON in one of the forms of /invocations, or an image.

    `x-fc-status` tells Function Compute whether the function failed.
    """
    body = await request.body()
    media = request.media_type
    if media in ("", "application/octet-stream"):
        media = JSON if body.lstrip(BLANK)[:1] == b"{" else "image/*"
    try:
        answer = await mlflow.invoke(context, request, media, body)
    except HttpError as error:
        worded = mlflow.error(error.status, error.reason)
        answer = Answer(worded.status, worded.body, worded.content_type, error.headers)
    except PreprocessingError as error:
        answer = mlflow.error(400, str(error).replace("\n", "; "))
    status = "200" if answer.status == 200 else "404"
    headers = {**answer.headers, "x_fc_status": status}
    return Answer(answer.status, answer.body, answer.content_type, headers)


async def _predict(context: Context, request: Request) -> Answer:
    found = request.model = context.registry.resolve()
    tokens = nonfinite.wanted(request)
    asked = await instances.read(context, await request.body(), found, _read, tokens)
    if not asked.rows:
        raise HttpError(400, "the body must be an object with instances")
    top = instances.top_of(asked.rest.get("parameters"))
    outcome = await instances.run(context, request, found, asked)

    def value() -> object:
        rows = instances.best(found, outcome, top) if top else to_rows(outcome.outputs)
        return {"predictions": rows}

    return await instances.answered(context, instances.size_of(outcome.outputs), value, tokens)


def _read(document: dict[str, Any], found: LoadedModel, finite: bool) -> Asked:
    if "instances" not in document:
        raise HttpError(400, "the body must be an object with instances")
    asked = instances.from_key("instances", document["instances"], found, finite)
    asked.rest = document
    return asked


def _beside(other: Handler) -> Handler:
    @wraps(other)
    async def either(context: Context, request: Request) -> Answer:
        if request.media_type in ("", JSON):
            return await predict(context, request)
        return await other(context, request)

    return either


def _path(environ: Mapping[str, str], name: str) -> str:
    path = environ.get(name, "")
    if path and (not path.startswith("/") or {"{", "}", "?", "#"} & set(path)):
        raise UsageError(
            f"{name}={path[:100]} is no path", f"set {name} to a path such as /predict"
        )
    return path


ROUTES: Routes = [("POST", "/initialize", initialize), ("POST", "/invoke", invoke)]
