"""The page at /, its parts, and /healthz."""

from functools import cache
from importlib.resources import files

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, Request, json_answer

# Nothing from elsewhere, no inline script or style; blob: shows the chosen image.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page(context: Context, request: Request) -> Answer:
    """GET /."""
    return _file("index.html", "text/html; charset=utf-8")


async def style(context: Context, request: Request) -> Answer:
    """GET /page.css."""
    return _file("page.css", "text/css; charset=utf-8")


async def script(context: Context, request: Request) -> Answer:
    """GET /page.js."""
    return _file("page.js", "text/javascript; charset=utf-8")


async def about(context: Context, request: Request) -> Answer:
    """GET /page.json: what the page asks for, and what it shows about the model."""
    found = context.registry.resolve()
    spec = found.spec
    return json_answer(
        {
            "name": spec.name,
            "version": spec.version,
            "task": spec.task,
            "description": spec.description,
            "takes": found.predictor.takes,
            "classes": len(spec.labels),
            "engine": found.engine.name,
        }
    )


async def health(context: Context, request: Request) -> Answer:
    """GET /healthz: 200 as long as the process answers."""
    return json_answer({"status": "draining" if context.draining else "ok"})


def _file(name: str, content_type: str) -> Answer:
    return Answer(
        200,
        _read(name),
        content_type,
        {"content-security-policy": POLICY, "cache-control": "no-cache"},
    )


@cache
def _read(name: str) -> bytes:
    return (files("pipcook_deploy.server") / "page" / name).read_bytes()


ROUTES: Routes = [
    ("GET", "/", page),
    ("GET", "/page.css", style),
    ("GET", "/page.js", script),
    ("GET", "/page.json", about),
    ("GET", "/healthz", health),
]
