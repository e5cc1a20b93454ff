"""One of several processes that answer on the same port: `python -m pipcook_deploy.server.worker`.

Its job comes by stdin, which stays open as long as the supervisor lives. What it has to say goes to stdout, in
JSON lines: first `{"ready": index}` or `{"error": message, "hint", "code"}`.
"""

import asyncio
import json
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

from pipcook_deploy.errors import DeployError
from pipcook_deploy.server.process import run

LENGTH = struct.Struct(">Q")
INTERRUPTED = 130


def main() -> int:
    """Serve; the exit code."""
    # Whatever a library prints belongs to the log.
    said = os.dup(1)
    os.dup2(2, 1)
    (length,) = LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size))
    job = pickle.loads(sys.stdin.buffer.read(length))  # noqa: S301 - the supervisor's

    def say(**what: Any) -> None:
        os.write(said, json.dumps(what).encode() + b"\n")

    try:
        run(job, _listen, lambda index: say(ready=index))
    except DeployError as error:
        say(error=error.message, hint=error.hint, code=error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
    return 0


def _listen(end: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def first() -> None:
        # systemd sends it to every process, and so does the supervisor then, which kills who shall end at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None)
        end()

    loop.add_signal_handler(signal.SIGTERM, first)
    loop.add_signal_handler(signal.SIGINT, first)

    def orphaned() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            end()

    loop.add_reader(0, orphaned)


if __name__ == "__main__":
    sys.exit(main())
