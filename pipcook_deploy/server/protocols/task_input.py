"""What a request asks of a model, whichever way it says so: a form, the bytes themselves, a text, or JSON."""

from dataclasses import dataclass
from typing import Any

import orjson

from pipcook_deploy.server.app import Context
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Request
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.predictor import Predictor
from pipcook_deploy.server.multipart import parts

MULTIPART = "multipart/form-data"
JSON = "application/json"
IN_LOOP = 65_536  # bytes of a body that are worth no other thread
MAX_TOP = 1000
THRESHOLD = 0.5  # of boxes, as the metrics count them
ONE = {"image": "image", "text": "text", "row": "row"}
MANY = {"images": "image", "texts": "text", "rows": "row"}
NAMES = (*ONE, *MANY)
PLURAL = {"image": "images", "text": "text", "numbers": "rows of numbers", "row": "rows of a table"}


@dataclass(frozen=True)
class Options:
    """`?top=` best classes or boxes, 0: as the form is without it; `?threshold=` of boxes."""

    top: int = 0
    threshold: float = THRESHOLD


def options(request: Request) -> Options:
    """Of the query. 400 for a value out of range."""
    return Options(_top(request), _threshold(request))


async def read_body(context: Context, request: Request, found: LoadedModel) -> list[Any]:
    """The values of a POST, as `Predictor.prepare` takes them. 400 or 415 says what does not fit."""
    media, predictor = request.media_type, found.predictor
    limit = context.settings.max_samples
    if media == MULTIPART:
        body = await request.body()
        if len(body) <= IN_LOOP:
            return _of_form(request, body, predictor, limit)
        return await context.compute(lambda: _of_form(request, body, predictor, limit))
    if media.startswith("image/") or media == "application/octet-stream":
        _must_take(predictor, "image")
        return [await request.body()]
    if media == "text/plain":
        _must_take(predictor, "text")
        return [_text(request, await request.body())]
    if media == JSON:
        body = await request.body()
        if len(body) <= IN_LOOP:
            return of_json(body, predictor, limit)
        return await context.compute(lambda: of_json(body, predictor, limit))
    said = f"not {media[:50]}" if media else "and the request names no content type"
    raise HttpError(
        415,
        f"predict takes {JSON}, {MULTIPART} with the field 'image', image/* or text/plain, {said}",
    )


def read_query(request: Request, predictor: Predictor, limit: int) -> list[Any]:
    """The values of a GET: `?input=` once or more, texts, or JSON for a model that takes numbers or rows."""
    inputs = request.values("input")
    if not inputs:
        raise HttpError(400, "no input available: the query has no 'input'")
    _few(len(inputs), limit)
    if predictor.takes == "image":
        raise HttpError(400, "this model takes images: POST them in the field 'image' of a form")
    return (
        [_json(text) for text in inputs] if predictor.takes in ("numbers", "row") else list(inputs)
    )


def of_json(body: bytes, predictor: Predictor, limit: int) -> list[Any]:
    """The values of a JSON body."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict) or len(document) != 1 or not document.keys() <= {*NAMES}:
        raise HttpError(400, f"the body must be an object with one of {', '.join(NAMES)}")
    [(name, given)] = document.items()
    kind = ONE.get(name) or MANY[name]
    values = [given] if name in ONE else given
    if not isinstance(values, list) or not values:
        raise HttpError(400, f"{name} must be a list that is not empty")
    _few(len(values), limit)
    if kind != "row":
        _must_take(predictor, kind)
    if kind == "image" and not all(isinstance(value, str) for value in values):
        raise HttpError(400, f"{name}: an image in JSON is text in base64")
    return values


def _of_form(request: Request, body: bytes, predictor: Predictor, limit: int) -> list[Any]:
    form = parts(request.header("content-type"), body, limit + 16)
    images = [bytes(part.data) for part in form if part.name == "image"]
    if not images:
        raise HttpError(400, "no file available: the form has no field 'image'")
    _few(len(images), limit)
    _must_take(predictor, "image")
    return images


def _must_take(predictor: Predictor, kind: str) -> None:
    """A model that takes nothing says why when its input is prepared."""
    takes = predictor.takes
    if takes in ("", kind):
        return
    how = {
        "image": "POST them in the field 'image' of a form",
        "text": 'POST {"text": "..."}',
        "numbers": 'POST {"row": [...]}',
        "row": 'POST {"row": {...}}',
    }
    raise HttpError(400, f"this model takes {PLURAL[takes]}: {how[takes]}")


def _text(request: Request, body: bytes) -> str:
    _, _, charset = request.header("content-type").lower().partition("charset=")
    if charset.strip('" ') not in ("", "utf-8", "utf8", "us-ascii"):
        raise HttpError(415, "a text is sent in UTF-8")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise HttpError(400, "the text is not UTF-8") from None


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise HttpError(400, "this model takes numbers: input=[1,2.5,...] as JSON") from None


def _few(count: int, limit: int) -> None:
    if count > limit:
        raise HttpError(400, f"at most {limit} samples a request")


def _top(request: Request) -> int:
    given = request.values("top")
    if not given:
        return 0
    if not (
        given[-1].isascii()
        and given[-1].isdigit()
        and len(given[-1]) < 9
        and 1 <= int(given[-1]) <= MAX_TOP
    ):
        raise HttpError(400, f"top must be a number from 1 to {MAX_TOP}")
    return int(given[-1])


def _threshold(request: Request) -> float:
    given = request.values("threshold")
    if not given:
        return THRESHOLD
    try:
        value = float(given[-1]) if given[-1].isascii() else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise HttpError(400, "threshold must be a number from 0 to 1")
    return value
