"""Pages of other origins (the Fetch standard's CORS protocol)."""

import re
from typing import TYPE_CHECKING

from pipcook_deploy.errors import UsageError
from pipcook_deploy.server.http import Answer

if TYPE_CHECKING:
    from pipcook_deploy.server.http import Request

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
SENT = (
    "authorization, content-type, inference-header-content-length, traceparent, tracestate, "
    "x-api-key, x-request-id, x-request-timeout"
)
SHOWN = "inference-header-content-length, retry-after, server-timing, traceparent, x-model, x-request-id"
MAX_AGE = "600"
Headers = list[tuple[str, str]]


class Cors:
    """Which origins may read answers; false if none may. An origin is never allowed for being there."""

    def __init__(self, origins: str = "") -> None:
        """`origins` with commas between them, or `*`. Raises `UsageError` for what is no origin."""
        given = [origin.strip() for origin in origins.split(",") if origin.strip()]
        for origin in given:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise UsageError(
                    f"--cors-origin: {origin!r} is not an origin",
                    "write it as browsers do: https://example.com, or http://localhost:3000",
                )
        self._any = "*" in given
        self._origins = frozenset(given)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def allows(self, origin: str) -> bool:
        """Whether pages of that origin may read answers."""
        return self._any or origin in self._origins

    def headers(self, request: "Request") -> Headers:
        """For every answer, so that caches keep the origins' answers apart."""
        vary = [] if self._any else [("vary", "Origin")]
        origin = request.header("origin")
        if not origin or not self.allows(origin):
            return vary
        return [
            ("access-control-allow-origin", "*" if self._any else origin),
            ("access-control-expose-headers", SHOWN),
            *vary,
        ]

    def preflight(self, request: "Request") -> Answer | None:
        """The answer to a browser that asks before it sends; None if this is another request."""
        if request.method != "OPTIONS" or not self.allows(request.header("origin")):
            return None
        if not request.header("access-control-request-method"):
            return None
        headers = {
            "access_control_allow_methods": METHODS,
            "access_control_allow_headers": SENT,
            "access_control_max_age": MAX_AGE,
        }
        return Answer(204, b"", headers=headers)
