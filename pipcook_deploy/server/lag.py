"""How far the event loop is behind: where tiny models run in it, there is no other queue to be full."""

import asyncio
from time import perf_counter

from pipcook_deploy.server.errors import OverloadedError

CROWD = 32  # requests at once, below which nobody waits long for the loop's thread


class Lag:
    """Measures what a request waits that comes now: the time that the loop takes for all that is ready before it."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._probing = False
        self.seconds = 0.0

    def check(self, in_flight: int) -> None:
        """Raises `OverloadedError` while the loop is more than `limit` seconds behind."""
        if in_flight < CROWD:
            self.seconds = 0.0
            return
        if not self._probing:
            self._probing = True
            asyncio.get_running_loop().call_soon(self._passed, perf_counter())
        if self.seconds > self._limit:
            raise OverloadedError(f"{in_flight} requests are being answered already; try again", 1)

    def _passed(self, since: float) -> None:
        self.seconds = perf_counter() - since
        self._probing = False
