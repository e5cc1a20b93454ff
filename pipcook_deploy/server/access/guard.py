"""The checks that come before every route, and the one for administration."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipcook_deploy.server.access.cors import Cors, Headers
from pipcook_deploy.server.access.hosts import Hosts
from pipcook_deploy.server.access.keys import ADMIN_TOKEN, API_KEYS, load_keys
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.settings import Settings

if TYPE_CHECKING:
    from pipcook_deploy.server.http import Answer, Request

# Asked by platforms, which have no key; and the description of the protocols, which names the model.
OPEN = ("/healthz", "/health", "/ping", "/v2/health/live", "/v2/health/ready", "/openapi.json")
REALM = 'Bearer realm="pipcook-deploy"'


class Guard:
    """What is configured of access; `active` is whether anything is, `shares` whether other origins are."""

    def __init__(
        self,
        settings: Settings | None = None,
        listening: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`listening` is the address of the server's port. Raises `UsageError` for what is misconfigured."""
        from pipcook_deploy.server.pages import FILES  # which imports this module

        settings, environ = settings or Settings(), os.environ if environ is None else environ
        self.keys = load_keys(settings.api_key_file, API_KEYS, environ)
        self.admin = load_keys(settings.admin_token_file, ADMIN_TOKEN, environ)
        self.cors = Cors(settings.cors_origin)
        self.hosts = Hosts(listening, settings.allowed_hosts)
        more = (path.strip() for path in settings.open_paths.split(","))
        self.open = frozenset({*OPEN, *FILES, *(path for path in more if path)})
        self.shares = bool(self.cors)
        self.active = bool(self.keys or self.cors or self.hosts)
        self._only_hosts = not (self.keys or self.cors)

    def before(self, request: "Request") -> "Answer | None":
        """The answer to a request that needs no route. Raises 401 or 421 for one that gets none."""
        host = request.headers.get("host") or ""
        if host not in self.hosts.good and self.hosts and not self.hosts.has(host):
            reason = "this server does not answer to that host name (see --allowed-hosts)"
            raise HttpError(421, reason)
        if self._only_hosts:
            return None
        if self.cors and request.method == "OPTIONS":
            answer = self.cors.preflight(request)
            if answer is not None:
                return answer
        if self.keys and request.path not in self.open:
            self.require_key(
                presented(request.header("authorization"), request.header("x-api-key"))
            )
        return None

    def after(self, request: "Request") -> Headers:
        """Headers of every answer, if `shares`."""
        return self.cors.headers(request)

    def require_key(self, key: str) -> None:
        """Raises 401 if keys are configured and `key` is none of them; the admin token opens as well."""
        if not self.keys:
            return
        known, admin = self.keys.has(key), self.admin.has(key)
        if not (known or admin):
            reason = (
                "a wrong key" if key else "a key is needed: Authorization: Bearer, or X-API-Key"
            )
            raise HttpError(401, reason, www_authenticate=REALM)

    def require_admin(self, request: "Request") -> None:
        """Raises 403 if no admin token is configured or another site's page asks, 401 for a wrong one."""
        self.require_admin_token(
            presented(request.header("authorization"), request.header("x-api-key"))
        )
        origin = request.header("origin")
        own = origin.partition("://")[2].lower() == request.header("host").lower()
        if origin and not own and not (self.cors and self.cors.allows(origin)):
            raise HttpError(403, "pages of other origins may not administer this server")

    def require_admin_token(self, token: str) -> None:
        """The same for a token that did not come by HTTP."""
        if not self.admin:
            reason = "administration is off: start the server with --admin-token-file"
            raise HttpError(403, f"{reason} or {ADMIN_TOKEN}")
        if not self.admin.has(token):
            reason = "a wrong admin token" if token else "the admin token is needed"
            raise HttpError(401, reason, www_authenticate=REALM)


def presented(authorization: str, api_key: str) -> str:
    """The key of a request by its two headers, or "". `Authorization: Bearer` comes first."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else api_key
