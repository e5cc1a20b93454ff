"""How the workers of one server talk: unix sockets in a folder that only their user may enter.

A message is its length, four bytes with the highest first, and JSON: {"op", "payload"}, answered by
{"answer"} or {"error"}.
"""

import asyncio
import json
import logging
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import DeployError
from pipcook_deploy.server.observe.logs import event

Handler = Callable[[Any], Awaitable[Any]]
LENGTH = struct.Struct(">I")
SECONDS = 10.0


class Peers:
    """The other workers. Without a folder there are none."""

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self._folder = folder
        self._number = number
        self._handlers: dict[str, Handler] = {}
        self._server: asyncio.Server | None = None

    def __bool__(self) -> bool:
        return self._folder is not None

    def on(self, op: str, handler: Handler) -> None:
        """Answer `op` with what `handler` makes of its payload: JSON to JSON."""
        self._handlers[op] = handler

    async def start(self) -> None:
        """Be there for the others."""
        if self._folder is None:
            return
        place = self._place(self._number)
        place.unlink(missing_ok=True)  # of a worker that crashed
        self._server = await asyncio.start_unix_server(self._serve, place)

    def close(self) -> None:
        """Be gone."""
        if self._server is not None and self._folder is not None:
            self._server.close()
            self._place(self._number).unlink(missing_ok=True)

    async def call_all(
        self, op: str, payload: Any = None, *, seconds: float = SECONDS
    ) -> list[Any]:
        """The answers of all other workers that are there; one that is gone, or takes too long, has none."""
        if self._folder is None:
            return []
        own = self._place(self._number)
        places = [place for place in self._folder.glob("*.sock") if place != own]
        answers = await asyncio.gather(*(self._call(p, op, payload, seconds) for p in places))
        return [answer["answer"] for answer in answers if answer is not None]

    async def _call(
        self, place: Path, op: str, payload: Any, seconds: float
    ) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(place)
                try:
                    _write(writer, {"op": op, "payload": payload})
                    answer = await _read(reader)
                finally:
                    writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            why = type(error).__name__
            event("worker silent", logging.WARNING, worker=place.stem, op=op, reason=why)
            return None
        if "error" in answer:
            event("worker failed", logging.ERROR, worker=place.stem, op=op, reason=answer["error"])
            return None
        return answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            message = await _read(reader)
            _write(writer, await self._answer(message))
            await writer.drain()
        writer.close()

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"answer": await self._handlers[message["op"]](message["payload"])}
        except DeployError as error:
            return {"error": error.message}

    def _place(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number}.sock"


def _write(writer: asyncio.StreamWriter, message: Any) -> None:
    data = json.dumps(message, separators=(",", ":")).encode()
    writer.write(LENGTH.pack(len(data)) + data)


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    message: dict[str, Any] = json.loads(await reader.readexactly(length))
    return message
