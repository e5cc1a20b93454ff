"""MLflow's scoring server, and SageMaker's and Azure ML's, which share its route and its forms.

Source: mlflow.org, "Deploy MLflow Model as a Local Inference Server". `input_data` is Azure ML's name for a split
data frame or a list. `inputs` that are tensors of the Open Inference Protocol are answered in that protocol.
"""

from importlib.metadata import version as package_version
from typing import Any

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import JSON, Answer, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols import instances
from pipcook_deploy.server.protocols.instances import Asked
from pipcook_deploy.server.protocols.mlflow_answer import accepted, write
from pipcook_deploy.server.protocols.mlflow_input import Body, is_image, read_body
from pipcook_deploy.server.protocols.oip_answer import answered
from pipcook_deploy.server.protocols.oip_head import Message
from pipcook_deploy.server.protocols.oip_message import parsed, read_message
from pipcook_deploy.server.protocols.task_input import options
from pipcook_deploy.server.tensors import nonfinite

TARGET = "x-amzn-sagemaker-target-model"
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
LABELS_OF_IMAGE = 5
CODES = {404: "RESOURCE_DOES_NOT_EXIST", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}


async def invocations(context: Context, request: Request) -> Answer:
    """POST /invocations, /score: whatever the content type says."""
    name = request.header(TARGET).removesuffix(".tar.gz") or None
    return await invoke(context, request, request.media_type, await request.body(), name)


async def invoke(
    context: Context, request: Request, media: str, body: bytes, name: str | None = None
) -> Answer:
    """Answer `body`, which is `media`, by the model of that name or the default one."""
    found = request.model = context.registry.resolve(name)
    small_json = media in ("", JSON) and len(body) <= instances.IN_LOOP
    asked = instances.read_plain(body, found) if small_json else None
    if asked is None and media in ("", JSON) and b'"datatype"' in body:
        message = await context.compute(lambda: _oip_message(context, found, body))
        if message is not None:
            outputs = await found.infer(message.inputs, request.call)
            return await answered(context, found, message, outputs)
    form, tokens = accepted(request.header("accept")), nonfinite.wanted(request)
    if asked is None:
        whole = Body(media, request.header("content-type"), body)
        asked = await read_body(context, whole, found, tokens)
    top = _top(request, asked, media)
    wanted = instances.wanted_outputs(found.spec, asked.rest.get("signature_name"))
    outcome = await instances.run(context, request, found, asked)
    if not top and wanted is not found.spec.outputs:
        outcome.outputs = {tensor.name: outcome.outputs[tensor.name] for tensor in wanted}
    answer = await write(context, found, asked, outcome, form, top, tokens)
    attributes = request.header(ATTRIBUTES)
    headers = {ATTRIBUTES: attributes} if attributes else {}
    return Answer(answer.status, answer.body, answer.content_type, headers)


async def ping(context: Context, request: Request) -> Answer:
    """GET /ping, /health: 200 without a body, 503 while draining, and while no model is loaded."""
    return Answer(200 if context.ready else 503, b"")


async def version(context: Context, request: Request) -> Answer:
    """GET /version."""
    return Answer(200, package_version("pipcook-deploy").encode(), "text/plain; charset=utf-8")


def error(status: int, reason: str) -> Answer:
    """MLflow's error body."""
    code = CODES.get(status, "BAD_REQUEST")
    return json_answer({"error_code": code, "message": reason}, status)


def _oip_message(context: Context, found: LoadedModel, body: bytes) -> Message | None:
    """The body as a message of the Open Inference Protocol; None if its inputs are no such tensors."""
    inputs = parsed(body).get("inputs")
    if not isinstance(inputs, list) or not all(
        isinstance(row, dict) and {"name", "datatype", "shape"} <= row.keys() for row in inputs
    ):
        return None
    return read_message(body, "", found, context.settings)


def _top(request: Request, asked: Asked, media: str) -> int:
    """How many labels; 0: the outputs themselves."""
    parameters: Any = asked.rest.get("params", asked.rest.get("parameters"))
    given = instances.top_of(parameters) or (options(request).top if request.query else 0)
    return given or (LABELS_OF_IMAGE if is_image(media) else 0)


ROUTES: Routes = [
    ("POST", "/invocations", invocations),
    ("POST", "/score", invocations),
    ("GET", "/ping", ping),
    ("GET", "/health", ping),
    ("GET", "/version", version),
]
