"""The routing table: each protocol brings its own routes and its own wording of errors."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from pipcook_deploy.server import pages
from pipcook_deploy.server.app import Context, Handler, Routes
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Answer, Request
from pipcook_deploy.server.observe import prometheus
from pipcook_deploy.server.openapi.route import with_document
from pipcook_deploy.server.protocols import (
    admin,
    clouds,
    mlflow,
    oip,
    pipcook,
    task,
    tf_serving,
    triton_repository,
    triton_statistics,
)

ErrorBody = Callable[[int, str], Answer]

REMEMBERED = 1024  # paths whose route needs no second search
LONGEST_REMEMBERED = 256

ROUTES: Routes = [
    *pages.ROUTES,
    *prometheus.ROUTES,
    *task.ROUTES,
    *oip.ROUTES,
    *triton_repository.ROUTES,
    *triton_statistics.ROUTES,
    *tf_serving.ROUTES,
    *mlflow.ROUTES,
    *clouds.ROUTES,
    *admin.ROUTES,
]
# Who words the errors below a path; elsewhere Pipcook's form, which the page reads.
WORDING: list[tuple[str, ErrorBody]] = [
    ("/v2", oip.error),
    ("/v1", tf_serving.error),
    ("/invocations", mlflow.error),
    ("/invoke", mlflow.error),
    ("/score", mlflow.error),
    ("/admin", oip.error),
]


class Router:
    """Finds handlers: exact paths by one look-up, patterns in order."""

    def __init__(self, routes: Routes) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Handler]]] = []
        self._found: dict[tuple[str, str], tuple[Handler, dict[str, Any]]] = {}
        self.routes = with_document(routes, self.error_body)
        by_path: dict[str, dict[str, Handler]] = {}
        for method, path, handler in self.routes:
            by_path.setdefault(path, {})[method] = handler
        for path, methods in by_path.items():
            if "{" in path:
                pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", path)
                self._patterns.append((re.compile(pattern), methods))
            else:
                self._exact[path] = methods

    def find(self, request: Request) -> tuple[Handler, dict[str, Any]]:
        """The route's handler, and what the path says. HEAD is GET without its body; OPTIONS lists the methods.

        Raises 404 and 405.
        """
        key = (request.method, request.path)
        found = self._found.get(key)
        if found is None:
            found = self._search(*key)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            if len(request.path) <= LONGEST_REMEMBERED:
                self._found[key] = found
        return found

    def error_body(self, path: str) -> ErrorBody:
        """How the protocol that owns `path` words errors."""
        for prefix, word in WORDING:
            if path == prefix or path.startswith(f"{prefix}/"):
                return word
        return pipcook.error

    def _search(self, method: str, path: str) -> tuple[Handler, dict[str, Any]]:
        methods, names = self._methods(path)
        allowed = sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})
        if method == "OPTIONS":
            answer = Answer(204, b"", headers={"allow": ", ".join(allowed)})
            return partial(_told, answer), {}
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            reason = f"{path[:200]} takes {', '.join(allowed)}, not {method[:20]}"
            raise HttpError(405, reason, allow=", ".join(allowed))
        return handler, names

    def _methods(self, path: str) -> tuple[dict[str, Handler], dict[str, Any]]:
        if path in self._exact:
            return self._exact[path], {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                return methods, match.groupdict()
        raise HttpError(404, f"there is nothing at {path[:200]}")


async def _told(answer: Answer, context: Context, request: Request) -> Answer:
    return answer
