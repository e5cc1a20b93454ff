"""The routing table, and which protocol words the errors below a path."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from pipcook_deploy.server import oip_v2, pages, pipcook
from pipcook_deploy.server.app import Context
from pipcook_deploy.server.http import Answer, HttpError, Request

Handler = Callable[..., Awaitable[Answer]]
ErrorBody = Callable[[int, str], Answer]

MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"

ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/", pages.page),
    ("GET", "/page.css", pages.style),
    ("GET", "/page.js", pages.script),
    ("GET", "/page.json", pages.about),
    ("GET", "/healthz", pages.health),
    ("POST", "/predict", pipcook.predict_files),
    ("GET", "/predict", pipcook.predict_query),
    ("GET", "/v2", oip_v2.server),
    ("GET", "/v2/", oip_v2.server),
    ("GET", "/v2/health/live", oip_v2.live),
    ("GET", "/v2/health/ready", oip_v2.ready),
    *[
        row
        for base in (MODEL, VERSION)
        for row in (
            ("GET", base, oip_v2.model),
            ("GET", base + "/ready", oip_v2.model_ready),
            ("POST", base + "/infer", oip_v2.infer),
        )
    ],
]


class Router:
    """Finds handlers: exact paths by one look-up, patterns in order."""

    def __init__(self, routes: list[tuple[str, str, Handler]]) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Handler]]] = []
        by_path: dict[str, dict[str, Handler]] = {}
        for method, path, handler in routes:
            by_path.setdefault(path, {})[method] = handler
        for path, methods in by_path.items():
            if "{" in path:
                pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
                self._patterns.append((re.compile(pattern), methods))
            else:
                self._exact[path] = methods

    async def answer(self, context: Context, request: Request) -> Answer:
        """Run the route's handler. HEAD is GET without its body; OPTIONS lists the methods."""
        methods, names = self._find(request.path)
        allowed = sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})
        if request.method == "OPTIONS":
            return Answer(204, b"", headers={"allow": ", ".join(allowed)})
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            reason = f"{request.path[:200]} takes {', '.join(allowed)}, not {request.method[:20]}"
            raise HttpError(405, reason, allow=", ".join(allowed))
        return await handler(context, request, **names)

    def error_body(self, path: str) -> ErrorBody:
        """How the protocol that owns `path` words errors."""
        return oip_v2.error if path == "/v2" or path.startswith("/v2/") else pipcook.error

    def _find(self, path: str) -> tuple[dict[str, Handler], dict[str, Any]]:
        if path in self._exact:
            return self._exact[path], {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                return methods, {k: unquote(v) for k, v in match.groupdict().items()}
        raise HttpError(404, f"there is nothing at {path[:200]}")
