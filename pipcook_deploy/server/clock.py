"""Time limits for reading bodies: one timer for all, because `asyncio.timeout` costs more than a small request."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pipcook_deploy.server.errors import HttpError

Result = TypeVar("Result")


class BodyClock:
    """Ends the tasks that wait for a body longer than `seconds`, a quarter of that late at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def limited(self, body: Awaitable[Result]) -> Result:
        """What `body` gives. Raises 408 if it takes too long."""
        task = asyncio.current_task()
        if task is None or task in self._waiting:
            raise RuntimeError("one task reads one body")
        loop = self._loop or self._start()
        self._waiting[task] = loop.time() + self._seconds
        try:
            return await body
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            reason = f"the body did not arrive within {self._seconds:g} s"
            raise HttpError(408, reason, connection="close") from None
        finally:
            del self._waiting[task]
            self._late.discard(task)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        loop.call_later(self._seconds / 4, self._tick)
        return loop

    def _tick(self) -> None:
        """Runs only while something waits."""
        if not self._waiting or self._loop is None:
            self._loop = None
            return
        now = self._loop.time()
        for task, end in self._waiting.items():
            if now > end:
                self._late.add(task)
                task.cancel()
        self._loop.call_later(self._seconds / 4, self._tick)
