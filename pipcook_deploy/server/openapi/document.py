"""Makes the OpenAPI 3.1 document of a routing table."""

import re
from collections.abc import Callable
from importlib.metadata import version as package_version
from typing import Any

import orjson

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.openapi.describe import JSON, Operation, Parameter, Schema, described
from pipcook_deploy.server.openapi.examples import infer_example, instances_example, predict_example
from pipcook_deploy.server.openapi.schemas import SCHEMAS, TAGS

ErrorBody = Callable[[int, str], Answer]
PLACES = {
    "name": "A model's name.",
    "version": "A version of it.",
    "label": "A label of a version.",
}
REASONS = {
    400: "The request is malformed, or does not fit the model.",
    404: "There is no such model, version or label.",
    408: "The body did not arrive in time.",
    413: "The body is larger than allowed.",
    415: "The content type is not one of these.",
    503: "Too many requests are waiting, or it is ending: try again after Retry-After seconds.",
}
WITH_BODY = (400, 408, 413, 415)


def document(routes: Routes, words: Callable[[str], ErrorBody], context: Context) -> dict[str, Any]:
    """The document for the models that are loaded now; `words` finds who words the errors of a path."""
    writer = _Writer(words, _default(context), context)
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in routes:
        paths.setdefault(path, {})[method.lower()] = writer.operation(
            method, path, described(handler)
        )
    if context.access.keys:
        _secure(paths, context.access.open)
    used = {operation["tags"][0] for item in paths.values() for operation in item.values()}
    made: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {
            "title": f"{writer.model.name if writer.model else 'pipcook-deploy'}: prediction server",
            "version": package_version("pipcook-deploy"),
            "description": ABOUT,
        },
        "tags": [{"name": tag, "description": TAGS.get(tag, "")} for tag in _ordered(used)],
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS)},
    }
    if context.access.keys:
        made["components"]["securitySchemes"] = KEYS
        made["security"] = [{name: []} for name in KEYS]
    return made


KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
ABOUT = (
    "One process answers all of these protocols on one port. Errors have a status of 4xx, or 503 where trying again "
    "helps, and say why in the form of the protocol that was spoken."
)


def _secure(paths: dict[str, dict[str, Any]], open_paths: frozenset[str]) -> None:
    for path, item in paths.items():
        for operation in item.values():
            operation.update({"security": []} if path in open_paths else {})


def _ordered(used: set[str]) -> list[str]:
    return [tag for tag in TAGS if tag in used] + sorted(used - TAGS.keys())


def _default(context: Context) -> LoadedModel | None:
    try:
        return context.registry.resolve()
    except HttpError:
        return None


class _Writer:
    def __init__(
        self, words: Callable[[str], ErrorBody], model: LoadedModel | None, context: Context
    ) -> None:
        self.model = model
        self._words = words
        self._bodies = {
            "predict": predict_example(model) if model else None,
            "infer": infer_example(model) if model else None,
            "instances": instances_example(model) if model else None,
        }
        entry = context.registry.entry() if model else None
        labels = list(entry.labels) if entry else []
        self._places = {
            "name": model.name if model else "model",
            "version": model.version if model else "1",
            "label": labels[0] if labels else "stable",
        }

    def operation(self, method: str, path: str, said: Operation) -> dict[str, Any]:
        names = re.findall(r"\{(\w+)\}", path)
        made: dict[str, Any] = {
            "operationId": _id(method, path),
            "tags": [said.tag],
            "summary": said.summary,
            "responses": self._responses(path, said, bool(names)),
        }
        if said.description:
            made["description"] = said.description
        parameters = [self._place(name) for name in names] + [
            _parameter(p) for p in said.parameters
        ]
        if parameters:
            made["parameters"] = parameters
        if said.takes:
            made["requestBody"] = {
                "required": not said.optional,
                "content": {
                    media: self._content(media, schema, said)
                    for media, schema in said.takes.items()
                },
            }
        return made

    def _place(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "in": "path",
            "required": True,
            "description": PLACES.get(name, ""),
            "schema": {"type": "string", "minLength": 1},
            "example": self._places.get(name, name),
        }

    def _content(self, media: str, schema: Schema, said: Operation) -> dict[str, Any]:
        made: dict[str, Any] = {"schema": _referred(schema)} if schema else {}
        example = said.examples.get(media)
        if isinstance(example, str) and example in self._bodies:
            example = self._bodies[example]
        return made | ({} if example is None else {"example": example})

    def _responses(self, path: str, said: Operation, named: bool) -> dict[str, Any]:
        content = {m: {"schema": _referred(s)} if s else {} for m, s in said.gives.items()}
        good: dict[str, Any] = {"description": "Done." if said.gives else "Done, without a body."}
        made = {str(said.status): good | ({"content": content} if content else {})}
        statuses = {
            status: REASONS[status] for status in (*(WITH_BODY if said.takes else (400,)), 503)
        }
        if named:
            statuses[404] = REASONS[404]
        refused = _error_content(self._words(path))
        for status, reason in sorted((statuses | dict(said.others)).items()):
            made.setdefault(str(status), {"description": reason, "content": refused})
        made["4XX"] = {"description": "Refused; the body says why.", "content": refused}
        return made


def _error_content(word: ErrorBody) -> dict[str, Any]:
    """The protocol's error body, by asking for one."""
    answer = word(400, "why")
    media = answer.content_type.split(";")[0]
    if media != JSON:
        return {media: {"schema": {"type": "string"}}}
    keys = set(orjson.loads(answer.body))
    known = {
        frozenset({"success", "message"}): "Failure",
        frozenset({"error"}): "Error",
        frozenset({"error_code", "message"}): "InvocationError",
    }
    return {JSON: {"schema": _referred(known.get(frozenset(keys), {"type": "object"}))}}


def _parameter(said: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": said.name,
        "in": said.place,
        "required": said.required,
        "description": said.description,
        "schema": said.schema,
    }
    return made | ({} if said.example is None else {"example": said.example})


def _referred(schema: Schema) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema


def _id(method: str, path: str) -> str:
    """A name that is a word in most languages: `post_models_name_predict`."""
    words = re.sub(r"\W+", "_", path).strip("_") or "page"
    slash = "_root" if path.endswith("/") and path != "/" else ""
    return f"{method.lower()}_{words}{slash}"
