"""The page at /, the one about the protocols at /docs, their parts, and /healthz."""

from functools import cache
from importlib.resources import files
from typing import Any

from pipcook_deploy.server.app import Context, Handler, Routes
from pipcook_deploy.server.http import Answer, Request, json_answer
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.registry import Entry
from pipcook_deploy.server.openapi.describe import JSON, describe
from pipcook_deploy.server.openapi.examples import infer_example
from pipcook_deploy.server.openapi.schemas import TEXT, define, listed, record
from pipcook_deploy.server.protocols.task_answer import form

# Nothing from elsewhere, no inline script or style; blob: and data: show the chosen image and made ones.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HTML, CSS, SCRIPT = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
# What a browser loads, in the folder `page`. None of it tells anything about the models.
FILES = {
    "/": ("index.html", HTML),
    "/docs": ("docs.html", HTML),
    "/page.css": ("page.css", CSS),
    "/docs.css": ("docs.css", CSS),
    "/page.js": ("page.js", SCRIPT),
    "/page-inputs.js": ("page-inputs.js", SCRIPT),
    "/page-answers.js": ("page-answers.js", SCRIPT),
    "/page-server.js": ("page-server.js", SCRIPT),
    "/docs.js": ("docs.js", SCRIPT),
}


async def about(context: Context, request: Request) -> Answer:
    """GET /page.json: what the page asks for, and what it shows about the models.

    The members of the default model's current version stand at the top as well.
    """
    entries = [entry for entry in context.registry.entries.values() if entry.versions]
    models = [_told(entry, found) for entry in entries for found in entry.versions.values()]
    return json_answer(_model(context.registry.resolve()) | {"models": models})


async def health(context: Context, request: Request) -> Answer:
    """GET /healthz: 200 as long as the process answers."""
    return json_answer({"status": "draining" if context.draining else "ok"})


def _told(entry: Entry, found: LoadedModel) -> dict[str, Any]:
    labels = [label for label, version in entry.labels.items() if version == found.version]
    current = found.version == entry.current
    return _model(found) | {"current": current, "version_labels": labels}


def _model(found: LoadedModel) -> dict[str, Any]:
    spec, kinds = found.spec, found.predictor.kinds
    return {
        "name": found.name,
        "version": found.version,
        "task": spec.task,
        "description": spec.description,
        "takes": found.predictor.takes,
        "gives": form(spec),
        "classes": len(spec.labels),
        "engine": found.engine.name,
        "inputs": [
            {"name": t.name, "dtype": t.dtype, "shape": t.shape, "kind": kinds[t.name]}
            for t in spec.inputs
        ],
        "template": infer_example(found),
    }


def _file(path: str) -> Handler:
    name, content_type = FILES[path]

    async def file(context: Context, request: Request) -> Answer:
        return Answer(
            200,
            _read(name),
            content_type,
            {
                "content-security-policy": POLICY,
                "referrer-policy": "no-referrer",
                "cache-control": "no-cache",
            },
        )

    summary = {"/": "The page for people", "/docs": "This document as a page"}.get(path, name)
    describe(file, summary, tag="Page", gives={content_type.split(";")[0]: TEXT})
    return file


@cache
def _read(name: str) -> bytes:
    return (files("pipcook_deploy.server") / "page" / name).read_bytes()


ROUTES: Routes = [
    *[("GET", path, _file(path)) for path in FILES],
    ("GET", "/page.json", about),
    ("GET", "/healthz", health),
]

_ABOUT = {
    "name": TEXT,
    "version": TEXT,
    "task": TEXT,
    "description": {"type": ["string", "null"]},
    "takes": {"enum": ["image", "text", "numbers", "row", ""]},
    "gives": {"enum": ["classes", "boxes", "outputs"]},
}
define(
    ModelAbout=record(_ABOUT),
    PageAbout=record(_ABOUT | {"models": listed({"$ref": "#/components/schemas/ModelAbout"})}),
)
describe(about, "The models that are served", tag="Page", gives={JSON: "PageAbout"})
describe(health, "Whether the process answers", tag="Health", gives={JSON: "Health"})
