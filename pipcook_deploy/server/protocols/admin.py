"""Administration: which versions are loaded, labels, shares, the way back. All of it needs the admin token.

Each change answers with the model's versions as they are then, in all workers.
"""

import math
from typing import Any

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Answer, Request, json_answer
from pipcook_deploy.server.models.control import Control
from pipcook_deploy.server.protocols.oip_message import parsed_command


async def models(context: Context, request: Request) -> Answer:
    """GET /admin/models."""
    return json_answer({"models": _control(context, request).index()})


async def load(context: Context, request: Request, name: str) -> Answer:
    """POST /admin/models/{name}/load, of one `version` or the newest."""
    control, version = _control(context, request), _version(await _body(request, "version"))
    await control.load(name, version)
    return _answer(control, name)


async def unload(context: Context, request: Request, name: str) -> Answer:
    """POST /admin/models/{name}/unload, of one `version` or of all."""
    control, version = _control(context, request), _version(await _body(request, "version"))
    await control.unload(name, version)
    return _answer(control, name)


async def label(context: Context, request: Request, name: str, label: str) -> Answer:
    """PUT /admin/models/{name}/labels/{label} with its `version`."""
    control, version = _control(context, request), _version(await _body(request, "version"))
    if version is None:
        raise HttpError(400, 'a label needs its version: {"version": "2"}')
    await control.set_label(name, label, version)
    return _answer(control, name)


async def no_label(context: Context, request: Request, name: str, label: str) -> Answer:
    """DELETE /admin/models/{name}/labels/{label}."""
    control = _control(context, request)
    await control.set_label(name, label, None)
    return _answer(control, name)


async def split(context: Context, request: Request, name: str) -> Answer:
    """PUT /admin/models/{name}/split with `weights` by version or label."""
    control = _control(context, request)
    weights = (await _body(request, "weights")).get("weights")
    if not isinstance(weights, dict) or not all(map(_is_weight, weights.values())):
        raise HttpError(400, 'a split needs weights: {"weights": {"stable": 90, "canary": 10}}')
    await control.set_split(name, {key: float(weight) for key, weight in weights.items()})
    return _answer(control, name)


async def no_split(context: Context, request: Request, name: str) -> Answer:
    """DELETE /admin/models/{name}/split."""
    control = _control(context, request)
    await control.set_split(name, {})
    return _answer(control, name)


async def rollback(context: Context, request: Request, name: str) -> Answer:
    """POST /admin/models/{name}/rollback."""
    control = _control(context, request)
    await _body(request)
    await control.rollback(name)
    return _answer(control, name)


def _control(context: Context, request: Request) -> Control:
    context.access.require_admin(request)
    if context.control is None:
        raise HttpError(409, "the models of this server cannot be changed")
    return context.control


async def _body(request: Request, *known: str) -> dict[str, Any]:
    message = await parsed_command(request)
    for key in message:
        if key not in known:
            raise HttpError(400, f"{key[:50]!r} is not known here; known: {', '.join(known)}")
    return message


def _version(message: dict[str, Any]) -> str | None:
    version = message.get("version")
    if version is None or (isinstance(version, str) and version):
        return version
    raise HttpError(400, 'a version is a text: {"version": "2"}')


def _is_weight(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e9 and math.isfinite(value)  # type: ignore[arg-type]


def _answer(control: Control, name: str) -> Answer:
    return json_answer({"models": [row for row in control.index() if row["name"] == name]})


_MODEL = "/admin/models/{name}"

ROUTES: Routes = [
    ("GET", "/admin/models", models),
    ("POST", _MODEL + "/load", load),
    ("POST", _MODEL + "/unload", unload),
    ("PUT", _MODEL + "/labels/{label}", label),
    ("DELETE", _MODEL + "/labels/{label}", no_label),
    ("PUT", _MODEL + "/split", split),
    ("DELETE", _MODEL + "/split", no_split),
    ("POST", _MODEL + "/rollback", rollback),
]
