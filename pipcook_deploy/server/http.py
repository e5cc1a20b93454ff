"""Requests and answers over HTTP, whatever protocol they belong to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from pipcook_deploy.server.call import Call
from pipcook_deploy.server.clock import BodyClock
from pipcook_deploy.server.errors import HttpError as HttpError
from pipcook_deploy.server.observe.trace import new_id, request_id, traceparent
from pipcook_deploy.server.settings import Settings

if TYPE_CHECKING:
    from pipcook_deploy.server.models.loaded import LoadedModel

JSON = "application/json"
UNCOUNTED = 262_144  # bytes of a body that is worth no account
DISCARD_SECONDS = 3.0  # in all
SMALL = 65_536  # bytes of a body that a client has sent before it could be cut off
DISCARD_IDLE = 0.3  # without a byte
LONGEST_TIMEOUT = 3600.0
# Seconds; watching costs more than a small request. One who left before is noticed all the same.
WATCH_AFTER = 0.25


NO_HEADERS: Mapping[str, str] = {}


@dataclass(slots=True)
class Answer:
    """Status, body and headers of a response."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


def json_answer(value: object, status: int = 200) -> Answer:
    """JSON without NaN or Infinity, which JSON does not have: they become null."""
    return Answer(status, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


class Request(Call):
    """A request whose body has not been read yet. `path` is decoded, without query.

    `model` is set by whoever finds out which model is meant: what is measured belongs to it.
    """

    __slots__ = (
        "_clock", "_given", "_id", "_protocol", "_scope", "_unread", "headers", "held", "method", "model", "path", "settings",
    )  # fmt: skip

    def __init__(self, scope: Any, protocol: Any, settings: Settings, clock: BodyClock) -> None:
        super().__init__(settings.request_timeout)
        self.method: str = scope.method
        self.path: str = scope.path
        self.headers = scope.headers
        self.settings = settings
        self.model: LoadedModel | None = None
        self._protocol = protocol
        self._clock = clock
        self._scope = scope
        self._given = False
        self.held = 0  # bytes of its body that were asked room for
        self._unread = True
        self._id = ""

    @property
    def query(self) -> str:
        """What follows the question mark, as it was sent."""
        return str(self._scope.query_string)

    def header(self, name: str) -> str:
        """The header's value, or ""."""
        return self.headers.get(name) or ""

    @property
    def request_id(self) -> str:
        """The client's `x-request-id`, Function Compute's, or a new one."""
        if not self._id:
            given = self.headers.get("x-request-id") or self.headers.get("x-fc-request-id")
            self._id = request_id(given) if given else new_id()
        return self._id

    @property
    def traceparent(self) -> str:
        """W3C's, or "" where it is missing or not valid."""
        given = self.headers.get("traceparent")
        return traceparent(given) if given else ""

    @property
    def call(self) -> Call:
        """What models need to know of it."""
        return self

    @property
    def deadline(self) -> float:
        """From the settings, or the header `x-request-timeout`, in seconds; that is read at first use."""
        if not self._given:
            self._given = True
            given = self.header("x-request-timeout")
            if given:
                self._deadline = self.started + _seconds(given)
        return self._deadline

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
        self._unread = False
        announced = self.header("content-length")
        if announced:
            size = int(announced)
            if size > self.settings.max_body:
                raise await self._too_large(_chunks(self._protocol))
            if size > UNCOUNTED:
                self._unread = True  # until there is room for it
                self._hold(size)
                self._unread = False
            whole: bytes = await self._clock.limited(self._protocol())
            return whole
        stream = _chunks(self._protocol)
        parts = await self._clock.limited(self._read(stream))
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
            if size > UNCOUNTED:
                self._hold(size - self.held)
            parts.append(part)
        return parts

    def _hold(self, size: int) -> None:
        self._clock.hold(size)
        self.held += size

    async def _too_large(self, stream: AsyncIterator[bytes]) -> HttpError:
        """The refusal, after the client had a while to finish."""
        await self._discard(stream)
        reason = f"the body is larger than {self.settings.max_body} bytes"
        return HttpError(413, reason, connection="close")

    async def let_finish(self) -> None:
        """Before a refusal: a large body that no one wants is let in."""
        if not self._unread:
            return
        self._unread = False
        announced = self.header("content-length")
        if int(announced) > SMALL if announced else self.header("transfer-encoding"):
            await self._discard(_chunks(self._protocol))

    async def _discard(self, stream: AsyncIterator[bytes]) -> None:
        """Read for a while what is thrown away: a client that is cut off never reads its answer."""
        loop = asyncio.get_running_loop()
        end, size = loop.time() + DISCARD_SECONDS, 0
        while size <= 10 * self.settings.max_body and loop.time() < end:
            try:
                async with asyncio.timeout(DISCARD_IDLE):
                    size += len(await anext(stream))
            except (TimeoutError, StopAsyncIteration):
                break

    def watch(self) -> Callable[[], object]:
        """Look out for the client's leaving until the answer is there, unless that comes soon."""
        watching: asyncio.Task[None] | None = None

        async def left() -> None:
            await self._protocol.client_disconnect()
            self.gone = True

        def begin() -> None:
            nonlocal watching
            watching = asyncio.ensure_future(left())

        def end() -> None:
            timer.cancel()
            if watching is not None:
                watching.cancel()

        timer = asyncio.get_running_loop().call_later(WATCH_AFTER, begin)
        return end


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise HttpError(400, f"x-request-timeout must be seconds, up to {LONGEST_TIMEOUT:g}")
    return seconds


async def _chunks(protocol: Any) -> AsyncIterator[bytes]:
    """granian's protocol can be iterated only once, and only by `async for`."""
    async for part in protocol:
        yield part
