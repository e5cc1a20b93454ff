"""Requests and answers, whatever protocol they belong to."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import orjson

from pipcook_deploy.server.served import Settings

JSON = "application/json"
DISCARD_SECONDS = 3.0  # in all
DISCARD_IDLE = 0.3  # without a byte


@dataclass(frozen=True)
class Answer:
    """Status, body and headers of a response."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """An answer of 4xx; each protocol words its own body around `reason`."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


def json_answer(value: object, status: int = 200) -> Answer:
    """JSON without NaN or Infinity, which JSON does not have: they become null."""
    return Answer(status, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


@dataclass
class Request:
    """A request whose body has not been read yet. `path` is decoded, without query."""

    method: str
    path: str
    query: str
    headers: Any
    settings: Settings
    _protocol: Any

    def header(self, name: str) -> str:
        """The header's value, or ""."""
        return str(self.headers.get(name) or "")

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower-case."""
        return self.header("content-type").split(";", 1)[0].strip().lower()

    def values(self, name: str) -> list[str]:
        """Values of a query parameter, in order. Raises 400 for an absurd query."""
        try:
            parsed = parse_qs(
                self.query, keep_blank_values=True, max_num_fields=1000, errors="strict"
            )
        except ValueError as error:
            raise HttpError(400, f"the query string cannot be read: {error}") from None
        return parsed.get(name, [])

    async def body(self) -> bytes:
        """The whole body; 413 if it is larger than allowed, 408 if it does not arrive in time."""
        announced = self.header("content-length")
        stream = _chunks(self._protocol)
        if announced.isdigit() and int(announced) > self.settings.max_body:
            raise await self._too_large(stream)
        seconds = self.settings.body_timeout
        try:
            async with asyncio.timeout(seconds):
                parts = await self._read(stream)
        except TimeoutError:
            reason = f"the body did not arrive within {seconds:g} s"
            raise HttpError(408, reason, connection="close") from None
        if parts is None:
            raise await self._too_large(stream)
        return b"".join(parts)

    async def _read(self, stream: AsyncIterator[bytes]) -> list[bytes] | None:
        """Parts of the body; None as soon as it is too large."""
        parts, size = [], 0
        async for part in stream:
            size += len(part)
            if size > self.settings.max_body:
                return None
            parts.append(part)
        return parts

    async def _too_large(self, stream: AsyncIterator[bytes]) -> HttpError:
        """The refusal, after the client had a while to finish: one that is cut off never reads it."""
        loop = asyncio.get_running_loop()
        end, size = loop.time() + DISCARD_SECONDS, 0
        while size <= 10 * self.settings.max_body and loop.time() < end:
            try:
                async with asyncio.timeout(DISCARD_IDLE):
                    size += len(await anext(stream))
            except (TimeoutError, StopAsyncIteration):
                break
        reason = f"the body is larger than {self.settings.max_body} bytes"
        return HttpError(413, reason, connection="close")


async def _chunks(protocol: Any) -> AsyncIterator[bytes]:
    """granian's protocol can be iterated only once, and only by `async for`."""
    async for part in protocol:
        yield part
