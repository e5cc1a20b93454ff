"""HTTP as a boot test speaks it: short, bounded, and strict about what comes back."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipcook_deploy.errors import BootError

SECONDS = 60.0
JSON = {"content-type": "application/json"}
LONGEST_BODY = 300  # of an answer that is quoted


@dataclass(frozen=True)
class Reply:
    """An answer with status 200."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises `BootError` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise BootError(f"the answer is no JSON: {self.body[:LONGEST_BODY]!r}") from error


@dataclass(frozen=True)
class Server:
    """Where a container's server is."""

    host: str
    port: int

    def get(self, path: str) -> Reply:
        """Raises `BootError` if the answer is not 200, `OSError` if there is none."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """The same."""
        return self._ask("POST", path, body, JSON if headers is None else headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise BootError(f"{method} {path}: no whole answer came: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            text = data[:LONGEST_BODY].decode("utf-8", "replace")
            raise BootError(f"{method} {path} answers {answer.status}: {text}")
        return Reply({name.lower(): value for name, value in answer.getheaders()}, data)
