"""Triton's model repository extension, and its model configurations.

The index is open to whoever may ask for predictions; loading and unloading are administration. What a client
sends along (other configurations, files) is refused: a model is what its bundle says.
"""

from typing import Any, Protocol

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Answer, Request, json_answer
from pipcook_deploy.server.protocols.oip_facts import configuration
from pipcook_deploy.server.protocols.oip_message import parsed_command

READY, UNAVAILABLE = "READY", "UNAVAILABLE"


class Control(Protocol):
    """What a model repository can be told; `Context.control`, if the server has one."""

    async def load(self, name: str) -> None:
        """Load the newest version, or look for a newer one. Raises 404, and 400 for one that is refused."""

    async def unload(self, name: str) -> None:
        """Let go of every version once its requests are answered. Raises 404."""

    def unavailable(self) -> dict[tuple[str, str], str]:
        """Why versions that are there are not served, by name and version."""


def index(context: Context, only_ready: bool = False) -> list[dict[str, str]]:
    """Every version of every model: what is served, and what is there but is not."""
    rows = [_row(model.name, model.version, READY, "") for model in context.registry.models()]
    if context.control and not only_ready:
        absent = context.control.unavailable().items()
        rows += [_row(name, version, UNAVAILABLE, why) for (name, version), why in absent]
    return sorted(rows, key=lambda row: (row["name"], row["version"]))


async def load(context: Context, name: str, parameters: Any) -> None:
    """Raises 409 if models cannot be loaded while the server runs, and what the repository raises."""
    if parameters:
        raise HttpError(
            400, "a model is loaded as it is in the repository: no parameters are taken"
        )
    await _control(context).load(name)


async def unload(context: Context, name: str) -> None:
    """Raises 409 if models cannot be unloaded while the server runs, and what the repository raises."""
    await _control(context).unload(name)


async def handle_index(context: Context, request: Request) -> Answer:
    """POST /v2/repository/index."""
    ready = (await parsed_command(request)).get("ready", False)
    if not isinstance(ready, bool):
        raise HttpError(400, "ready must be true or false")
    return json_answer(index(context, ready))


async def handle_load(context: Context, request: Request, name: str) -> Answer:
    """POST /v2/repository/models/{name}/load."""
    context.access.require_admin(request)
    await load(context, name, (await parsed_command(request)).get("parameters"))
    return json_answer({})


async def handle_unload(context: Context, request: Request, name: str) -> Answer:
    """POST /v2/repository/models/{name}/unload. Nothing depends on a model: `unload_dependents` is nothing."""
    context.access.require_admin(request)
    await parsed_command(request)
    await unload(context, name)
    return json_answer({})


async def handle_config(
    context: Context, request: Request, name: str, version: str | None = None
) -> Answer:
    """GET /v2/models/{name}[/versions/{version}]/config."""
    return json_answer(configuration(context.registry.resolve(name, version)))


def _control(context: Context) -> Control:
    if context.control is None:
        raise HttpError(
            409, "this server serves one bundle: it has no model repository to load from"
        )
    return context.control


def _row(name: str, version: str, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}


ROUTES: Routes = [
    ("POST", "/v2/repository/index", handle_index),
    ("POST", "/v2/repository/models/{name}/load", handle_load),
    ("POST", "/v2/repository/models/{name}/unload", handle_unload),
    ("GET", "/v2/models/{name}/config", handle_config),
    ("GET", "/v2/models/{name}/versions/{version}/config", handle_config),
]
