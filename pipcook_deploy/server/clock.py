"""Limits for reading bodies: time and memory.

One timer for all, because `asyncio.timeout` costs more than a small request.
"""

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from pipcook_deploy.server.errors import HttpError, OverloadedError

Result = TypeVar("Result")


class BodyClock:
    """Ends the tasks that wait for a body longer than `seconds`, a quarter of that late at most.

    Bodies that are held, from their first byte until their answer, have `memory` bytes together.
    """

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._memory = memory
        self.held = 0
        self._waiting: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def limited(self, body: Awaitable[Result]) -> Result:
        """What `body` gives. Raises 408 if it takes too long."""
        task = asyncio.current_task()
        if task is None or task in self._waiting:
            raise RuntimeError("one task reads one body")
        self._waiting[task] = perf_counter()
        if self._loop is None:
            self._start()
        try:
            return await body
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            reason = f"the body did not arrive within {self._seconds:g} s"
            raise HttpError(408, reason, connection="close") from None
        finally:
            del self._waiting[task]

    def hold(self, size: int) -> None:
        """Room for more of a body. Raises `OverloadedError` if there is none."""
        if self.held + size > self._memory:
            raise OverloadedError("too many large requests are being answered; try again", 1)
        self.held += size

    def release(self, size: int) -> None:
        """What `hold` gave is free again."""
        self.held -= size

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(self._seconds / 4, self._tick)

    def _tick(self) -> None:
        """Runs only while something waits."""
        if not self._waiting or self._loop is None:
            self._loop = None
            return
        begun = perf_counter() - self._seconds
        for task, since in self._waiting.items():
            if since < begun and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._loop.call_later(self._seconds / 4, self._tick)
