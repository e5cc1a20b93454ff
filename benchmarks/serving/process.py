"""Starts a server of the benchmark, waits for its first right answer, and ends it with all that it started."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.bodies import Answer, Request
from serving.debian import UnavailableError

START_SECONDS = 120
END_SECONDS = 20


@dataclass(frozen=True)
class Server:
    """One that answers."""

    port: int
    pid: int
    log: Path

    def resident(self) -> int:
        """Resident bytes of the process and all below it; pages that they share are counted once each."""
        return sum(_resident(pid) for pid in [self.pid, *_below(self.pid)])


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    request: Request,
    right: Callable[[Answer], str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
) -> Iterator[Server]:
    """A server in a session of its own, once `right` finds nothing wrong with its answer ("").

    Raises `UnavailableError` with the reason if it ends or gives no right answer in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _await_answer(process, port, request, right, log)
        yield Server(port, process.pid, log)
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, then after a while SIGKILL for everything in its session's group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _await_answer(
    process: "subprocess.Popen[bytes]",
    port: int,
    request: Request,
    right: Callable[[Answer], str],
    log: Path,
) -> None:
    limit, why = time.monotonic() + START_SECONDS, "no answer"
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise UnavailableError(f"ended with code {process.returncode}: {last_line(log)}")
        try:
            why = right(request.send(port))
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
        if not why:
            return
        if why.startswith("wrong"):
            break
        time.sleep(0.1)
    raise UnavailableError(why)


def last_line(log: Path) -> str:
    """What a process wrote last."""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it wrote nothing"


def _below(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *_below(int(child))]
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
