"""Lines to stderr by a thread of its own: whoever does not read them must not stop the server."""

import atexit
import contextlib
import os
import sys
import threading
from queue import Empty, SimpleQueue

WAITING = 10_000  # lines; what comes above is lost, and counted
FLUSH_SECONDS = 2.0


class Lines:
    """Never blocks its callers, of whatever thread. The thread begins with the first line."""

    def __init__(self) -> None:
        self.lost = 0
        self._queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._lock = threading.Lock()
        self._owner = 0  # the process whose thread writes

    def write(self, line: str) -> None:
        """Write it, without its end, as soon as possible."""
        if self._owner != os.getpid():
            self._start()
        if self._queue.qsize() >= WAITING:
            self.lost += 1
        else:
            self._queue.put(line)

    def flush(self) -> None:
        """Wait until everything so far is written, for two seconds at most."""
        if self._owner == os.getpid():
            written = threading.Event()
            self._queue.put(written)
            written.wait(FLUSH_SECONDS)

    def _start(self) -> None:
        with self._lock:
            if self._owner == os.getpid():
                return
            self._queue = (
                SimpleQueue()
            )  # a forked process has no thread, and not its parent's lines
            self._owner = os.getpid()
            threading.Thread(target=self._work, name="log", daemon=True).start()
            atexit.register(self.flush)

    def _work(self) -> None:
        while True:
            lines, done = self._take()
            if lines and sys.stderr is not None:
                # A closed stderr is no reason to end: there is no other place to say it.
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write("\n".join([*lines, ""]))
                    sys.stderr.flush()
            for event in done:
                event.set()

    def _take(self) -> tuple[list[str], list[threading.Event]]:
        """Everything that waits; at least one."""
        lines: list[str] = []
        done: list[threading.Event] = []
        item = self._queue.get()
        while True:
            lines.append(item) if isinstance(item, str) else done.append(item)
            try:
                item = self._queue.get_nowait()
            except Empty:
                return lines, done


LINES = Lines()
