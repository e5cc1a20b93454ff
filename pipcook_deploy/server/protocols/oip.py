"""Open Inference Protocol v2 over REST (kserve/open-inference-protocol), with Triton's binary tensors.

The tensors of `infer` are the model's own: no preprocessing is applied, which is what distinguishes
it from /predict.
"""

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, HttpError, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.protocols.oip_answer import answered
from pipcook_deploy.server.protocols.oip_facts import model_facts, server_facts
from pipcook_deploy.server.protocols.oip_message import read_message

IN_LOOP = 65_536  # bytes of JSON that are worth no other thread
JSON_LENGTH = "inference-header-content-length"
TAKES = ("", "application/json", "application/octet-stream")


async def server(context: Context, request: Request) -> Answer:
    """GET /v2."""
    return json_answer(server_facts())


async def live(context: Context, request: Request) -> Answer:
    """GET /v2/health/live."""
    return json_answer({"live": True})


async def ready(context: Context, request: Request) -> Answer:
    """GET /v2/health/ready: 503 while draining, and while no model is loaded."""
    return json_answer({"ready": context.ready}, 200 if context.ready else 503)


async def model(
    context: Context, request: Request, name: str, version: str | None = None
) -> Answer:
    """GET /v2/models/{name}[/versions/{version}]."""
    return json_answer(model_facts(context, name, version))


async def model_ready(
    context: Context, request: Request, name: str, version: str | None = None
) -> Answer:
    """GET /v2/models/{name}[/versions/{version}]/ready."""
    found = context.registry.resolve(name, version)
    state = {"name": found.name, "ready": not context.draining}
    return json_answer(state, 503 if context.draining else 200)


async def infer(
    context: Context, request: Request, name: str, version: str | None = None
) -> Answer:
    """POST /v2/models/{name}[/versions/{version}]/infer."""
    found = request.model = context.registry.resolve(name, version)
    if request.header("content-type") not in TAKES and request.media_type not in TAKES:
        raise HttpError(415, f"infer takes {' or '.join(TAKES[1:])}, not {request.media_type[:50]}")
    body = await request.body()
    length = request.header(JSON_LENGTH)
    if len(body) <= IN_LOOP or _are_views(length, found):
        message = read_message(body, length, found, context.settings)
    else:
        message = await context.compute(lambda: read_message(body, length, found, context.settings))
    if message.timeout:
        request.shorten(message.timeout)
    outputs = await found.infer(message.inputs, request)
    return await answered(context, found, message, outputs)


def error(status: int, reason: str) -> Answer:
    """The protocol's error body."""
    return json_answer({"error": reason}, status)


def _are_views(length: str, found: LoadedModel) -> bool:
    """Whether a large body is read at once: its tensors are bytes as they are, and its JSON is short."""
    short = length.isdigit() and int(length[:20]) <= IN_LOOP
    return short and all(tensor.dtype != "string" for tensor in found.spec.inputs)


_MODEL = "/v2/models/{name}"

ROUTES: Routes = [
    ("GET", "/v2", server),
    ("GET", "/v2/", server),
    ("GET", "/v2/health/live", live),
    ("GET", "/v2/health/ready", ready),
    *[
        row
        for base in (_MODEL, _MODEL + "/versions/{version}")
        for row in (
            ("GET", base, model),
            ("GET", base + "/ready", model_ready),
            ("POST", base + "/infer", infer),
        )
    ],
]
