"""Pipcook 2's protocol: images by multipart POST, texts by GET, answers {"success", "data"}.

Unlike Pipcook's own server, errors have a 4xx status; the body keeps its shape. `?top=5` adds the best
five classes to each answer (the page uses it). A model that takes numbers gets them as JSON in `input`.
"""

from typing import Any

import orjson

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, HttpError, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.predictor import Score
from pipcook_deploy.server.multipart import parts

MULTIPART = "multipart/form-data"
MAX_TOP = 1000


async def predict_files(context: Context, request: Request) -> Answer:
    """POST /predict: every part named `image` is an image."""
    found = request.model = context.registry.resolve()
    top = _top(request)
    if request.media_type != MULTIPART:
        raise HttpError(415, f"POST /predict takes {MULTIPART} with images in the field 'image'")
    body = await request.body()
    form = parts(request.header("content-type"), body, context.settings.max_samples + 16)
    images = [bytes(part.data) for part in form if part.name == "image"]
    if not images:
        raise HttpError(400, "no file available: the form has no field 'image'")
    _few(len(images), context)
    if found.predictor.takes in ("text", "numbers"):
        raise HttpError(400, f"this model takes {found.predictor.takes}: GET /predict?input=")
    return await _answer(context, request, found, images, top)


async def predict_query(context: Context, request: Request) -> Answer:
    """GET /predict?input=...&input=..."""
    found = request.model = context.registry.resolve()
    top = _top(request)
    inputs = request.values("input")
    if not inputs:
        raise HttpError(400, "no input available")
    _few(len(inputs), context)
    takes = found.predictor.takes
    if takes == "image":
        raise HttpError(400, "this model takes images: POST /predict with the field 'image'")
    values = [_numbers(text) for text in inputs] if takes == "numbers" else inputs
    return await _answer(context, request, found, values, top)


def error(status: int, reason: str) -> Answer:
    """The error body of Pipcook."""
    return json_answer({"success": False, "message": reason}, status)


async def _answer(
    context: Context, request: Request, found: LoadedModel, values: list[Any], top: int
) -> Answer:
    ranked = await found.classify(values, max(top, 1), context, request.call)
    return json_answer({"success": True, "data": [_row(scores, top) for scores in ranked]})


def _row(scores: list[Score], top: int) -> dict[str, Any]:
    row: dict[str, Any] = _score(scores[0]) if scores else {}
    return row | {"top": [_score(score) for score in scores]} if top else row


def _score(score: Score) -> dict[str, Any]:
    return {"id": score.id, "category": score.category, "score": score.score}


def _numbers(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise HttpError(400, "this model takes numbers: input=[1,2.5,...] as JSON") from None


def _few(count: int, context: Context) -> None:
    if count > context.settings.max_samples:
        raise HttpError(400, f"at most {context.settings.max_samples} samples a request")


def _top(request: Request) -> int:
    given = request.values("top")
    if not given:
        return 0
    if not (given[-1].isascii() and given[-1].isdigit() and 1 <= int(given[-1][:9]) <= MAX_TOP):
        raise HttpError(400, f"top must be a number from 1 to {MAX_TOP}")
    return int(given[-1])


ROUTES: Routes = [("POST", "/predict", predict_files), ("GET", "/predict", predict_query)]
