"""Where the state is kept: in the repository, to outlive the server, and in a folder that its workers share."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pipcook_deploy.server.models.state import State, durable, read_state, write_state
from pipcook_deploy.server.observe.logs import event

AGAIN = 0.005  # seconds


class Store:
    """`file` outlives the server; `shared` is a folder of its workers. Both are optional."""

    def __init__(self, file: Path | None, shared: Path | None) -> None:
        self._file = file
        self._shared = shared
        self._kept: State | None = None
        self._leading: int | None = None

    def kept(self) -> State:
        """What an earlier server has left. Raises `ServerError` if it is damaged."""
        self._kept = State() if self._file is None else read_state(self._file)
        return self._kept

    def shared(self) -> State | None:
        """What the workers have agreed on; None if there is nothing yet."""
        if self._shared is None or not (self._shared / "state.json").exists():
            return None
        return read_state(self._shared / "state.json")

    def write(self, state: State) -> None:
        """To both places. A repository that cannot be written to is no reason not to serve."""
        if self._shared is not None:
            write_state(self._shared / "state.json", state)
        # Another worker may have written in between.
        if self._file is None or (self._shared is None and durable(state) == self._kept):
            return
        self._kept = durable(state)
        try:
            write_state(self._file, self._kept)
        except OSError as error:
            reason = (
                f"{self._file}: {error.strerror}: labels and splits will not outlive the server"
            )
            event("state not kept", logging.WARNING, reason=reason)

    def leads(self) -> bool:
        """Whether this worker follows the repository: the first to ask does, until it ends."""
        if self._shared is None or self._leading is not None:
            return True
        self._leading = _lock(self._shared / "leader.lock")
        return self._leading is not None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """One worker at a time may switch them all."""
        if self._shared is None:
            yield
            return
        while (handle := _lock(self._shared / "switch.lock")) is None:
            await asyncio.sleep(AGAIN)
        try:
            yield
        finally:
            os.close(handle)


def _lock(file: Path) -> int | None:
    """An open file that holds the lock until it is closed, if only by the end of the process."""
    import fcntl  # no Windows has it, and none has several workers

    handle = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
