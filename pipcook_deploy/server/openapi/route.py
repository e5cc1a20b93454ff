"""/openapi.json: a route like the others, made from all of them."""

from collections.abc import Callable
from importlib import import_module

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, Request, json_answer
from pipcook_deploy.server.openapi.describe import JSON, describe
from pipcook_deploy.server.openapi.document import ErrorBody, document

# Protocols that are described in modules of their own, which are loaded with the first document.
DESCRIBED = ("oip", "triton", "tf_serving", "clouds", "admin")


def load_descriptions() -> None:
    """Before anything is asked about routes."""
    for protocol in DESCRIBED:
        import_module(f"pipcook_deploy.server.protocols.{protocol}_described")


def with_document(routes: Routes, words: Callable[[str], ErrorBody]) -> Routes:
    """The routes, and the one that describes them; `words` finds who words the errors of a path."""
    made: dict[tuple[object, ...], Answer] = {}

    async def openapi(context: Context, request: Request) -> Answer:
        """GET /openapi.json."""
        load_descriptions()
        state = _state(context)
        if state not in made:
            made.clear()
            made[state] = json_answer(document(whole, words, context))
        return made[state]

    whole = [*routes, ("GET", "/openapi.json", openapi)]
    describe(openapi, "This document", tag="Page", gives={JSON: {"type": "object"}})
    return whole


def _state(context: Context) -> tuple[object, ...]:
    """What of the server the document tells."""
    registry = context.registry
    entry = registry.entries.get(registry.default)
    if entry is None:
        return ("",)
    return (entry.name, entry.current, *entry.labels, bool(context.access.keys))
