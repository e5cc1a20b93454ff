"""The API for people: an image, a text or a table's row in; labels, boxes or numbers by name out.

`/predict` asks the default model; below `/models/NAME` every model, version and label can be asked. The answer keeps
the form of Pipcook 2 (see `pipcook`): {"success": true, "data": [an item for each value]}. An item is
{"id", "category", "score"} (and "top" with `?top=`) for a model that classifies, a list of such with "box" for one
that detects objects, and {"outputs": {NAME: value}} for every other.
"""

from time import perf_counter
from typing import Any
from urllib.parse import quote

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.openapi.describe import BYTES, JSON, Parameter, describe
from pipcook_deploy.server.protocols.task_answer import worded
from pipcook_deploy.server.protocols.task_input import (
    MAX_TOP,
    MULTIPART,
    THRESHOLD,
    Options,
    options,
    read_body,
    read_query,
)

IN_LOOP = 4096  # elements of an answer that are worth no other thread


async def predict(
    context: Context,
    request: Request,
    name: str | None = None,
    version: str | None = None,
    label: str | None = None,
) -> Answer:
    """POST /predict, /models/{name}[/versions/{version}|/labels/{label}]/predict."""
    found = request.model = context.registry.resolve(name, version, label)
    asked = options(request)
    values = await read_body(context, request, found)
    return await _answered(context, request, found, values, asked)


async def predict_query(
    context: Context,
    request: Request,
    name: str | None = None,
    version: str | None = None,
    label: str | None = None,
) -> Answer:
    """GET of the same paths, with ?input=."""
    found = request.model = context.registry.resolve(name, version, label)
    asked = options(request)
    values = read_query(request, found.predictor, context.settings.max_samples)
    return await _answered(context, request, found, values, asked)


async def _answered(
    context: Context, request: Request, found: LoadedModel, values: list[Any], asked: Options
) -> Answer:
    """`server-timing` has the milliseconds of each step (W3C Server Timing), `x-model` who answered."""
    start = perf_counter()
    prediction = await found.predict(values, context, request.call)

    def write() -> bytes:
        data = worded(found, values, prediction, asked, context.settings)
        return json_answer({"success": True, "data": data}).body

    size = sum(value.size for outputs, _ in prediction.parts for value in outputs.values())
    pictures = found.spec.task in ("object-detection", "image-to-image")
    body = write() if size <= IN_LOOP and not pictures else await context.compute(write)
    steps = {
        "prepare": prediction.preparing,
        "compute": prediction.computing,
        "total": perf_counter() - start,
    }
    return Answer(
        200,
        body,
        headers={
            "server_timing": ", ".join(f"{k};dur={1000 * v:.2f}" for k, v in steps.items()),
            "x_model": f"{quote(found.name)}/{quote(found.version)}",
        },
    )


_MODEL = "/models/{name}"
PATHS = (
    "/predict",
    *[f"{_MODEL}{which}/predict" for which in ("", "/versions/{version}", "/labels/{label}")],
)

ROUTES: Routes = [
    row for path in PATHS for row in (("POST", path, predict), ("GET", path, predict_query))
]

_SHARED = (
    Parameter(
        "top",
        {"type": "integer", "minimum": 1, "maximum": MAX_TOP},
        "Also the best classes of all, best first; of boxes, no more than these.",
        example=5,
    ),
    Parameter(
        "threshold",
        {"type": "number", "minimum": 0, "maximum": 1, "default": THRESHOLD},
        "Boxes scored below it are left out.",
    ),
)
describe(
    predict,
    "Ask a model about images, texts or rows",
    tag="Predict",
    description="Send a file in the field `image` of a form (Pipcook 2's way), the file itself, a text, or JSON. "
    "The answer fits the model's task: labels, boxes, or outputs by name.",
    takes={
        JSON: "Sample",
        MULTIPART: "Images",
        "image/*": BYTES,
        "text/plain": {"type": "string"},
    },
    gives={JSON: "Answers"},
    examples={JSON: "predict"},
    parameters=_SHARED,
)
describe(
    predict_query,
    "Ask a model about texts, numbers or rows",
    tag="Predict",
    gives={JSON: "Answers"},
    parameters=(
        Parameter(
            "input",
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "A text; numbers and rows are written as JSON. May be repeated.",
            required=True,
            example=["some words"],
        ),
        *_SHARED,
    ),
)
