"""Several processes that answer on one port, and the one that starts, restarts and ends them.

It loads no model and answers no request: what can crash is not in it.
"""

import asyncio
import json
import logging
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import DeployError, ServerError
from pipcook_deploy.server.job import Job
from pipcook_deploy.server.observe.logs import event, logged
from pipcook_deploy.server.ports import held_port
from pipcook_deploy.server.process import Twice
from pipcook_deploy.server.worker import LENGTH

COMMAND = (sys.executable, "-m", "pipcook_deploy.server.worker")
FIRST_WAIT, LONGEST_WAIT = 0.1, 30.0  # seconds before a worker that ended is started again
STEADY = 10.0  # seconds after which it counts as having worked
GRACE = 10.0  # beyond the drain timeout
LONGEST_SOCKET = 90  # characters of a unix socket's path, of 108, without its name
Index = list[dict[str, Any]]


def supervise(job: Job, ready: Callable[[str, Index], None] | None) -> None:
    """Serve with `job.settings.workers` processes. Raises what `serve` raises."""
    with ExitStack() as stack:
        port, held = held_port(job.host, job.port)
        stack.enter_context(closing(held))
        if job.settings.grpc_port:
            stack.enter_context(closing(held_port(job.host, job.settings.grpc_port)[1]))
        shared = Path(stack.enter_context(_private_folder()))
        job = replace(job, port=port, shared=shared)
        stack.enter_context(logged(job.settings))
        asyncio.run(Supervisor(job, ready).run())


def _private_folder() -> "tempfile.TemporaryDirectory[str]":
    """Only its user may enter it. Raises `ServerError` where there is no place for one."""
    try:
        short = len(tempfile.gettempdir()) < LONGEST_SOCKET - 30
    except FileNotFoundError:
        raise ServerError(
            "several workers need a folder for temporary files, and none can be written to",
            "give a container one (--tmpfs /tmp), or serve with --workers 1",
        ) from None
    return tempfile.TemporaryDirectory(
        prefix="pipcook-workers-",
        dir=None if short else "/tmp",  # noqa: S108
    )


@dataclass
class Worker:
    """One process, or what is left of it."""

    number: int
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    index: Index = field(default_factory=list)
    error: DeployError | None = None


class Supervisor:
    """Starts the first worker, which finds out what to serve, and then the others."""

    def __init__(self, job: Job, ready: Callable[[str, Index], None] | None) -> None:
        self._job = job
        self._ready = ready
        self._workers = [Worker(number) for number in range(job.settings.workers)]
        self._twice = Twice()
        self._at_once = False
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Until a signal comes. Raises what kept a worker from its first start, `KeyboardInterrupt` for a second signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        tasks: list[asyncio.Task[None]] = []
        try:
            for worker in self._workers:
                tasks.append(asyncio.create_task(self._keep(worker)))
                if worker.number == 0:
                    await self._up([worker])
            await self._up(self._workers)
            if self._ready and not self._ending.is_set():
                self._ready(self._job.url, self._workers[0].index)
            await self._ending.wait()
        finally:
            self._ending.set()
            self._tell(signal.SIGTERM)
            await self._ended(tasks)
        if self._at_once:
            raise KeyboardInterrupt

    def _on_signal(self) -> None:
        self._ending.set()
        if self._twice():
            self._at_once = True
            self._tell(signal.SIGKILL)

    async def _up(self, workers: list[Worker]) -> None:
        """Wait until they answer, or the end is asked for."""
        for worker in workers:
            waits = [asyncio.create_task(e.wait()) for e in (worker.ready, self._ending)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if worker.error is not None:
                raise worker.error

    async def _ended(self, tasks: "list[asyncio.Task[None]]") -> None:
        seconds = self._job.settings.drain_timeout + GRACE
        _, late = await asyncio.wait(tasks, timeout=seconds)
        if late:
            event("workers killed", logging.ERROR, workers=len(late))
            self._tell(signal.SIGKILL)
            await asyncio.wait(late)

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process is not None:
                with suppress(ProcessLookupError):
                    worker.process.send_signal(number)

    async def _keep(self, worker: Worker) -> None:
        """Start it, and again whenever it ends, until the end is asked for."""
        wait = FIRST_WAIT
        while not self._ending.is_set():
            began = time.monotonic()
            code = await self._once(worker)
            if self._ending.is_set():
                return
            if not worker.ready.is_set():  # at the very start: another try would end the same
                worker.error = worker.error or ServerError(f"worker {worker.number} {_how(code)}")
                worker.ready.set()
                return
            wait = FIRST_WAIT if time.monotonic() - began > STEADY else min(2 * wait, LONGEST_WAIT)
            reason = worker.error.message if worker.error else _how(code)
            event("worker ended", logging.ERROR, worker=worker.number, reason=reason, again_in=wait)
            worker.error = None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), wait)

    async def _once(self, worker: Worker) -> int:
        """Start it and see it end; the exit code."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 26,
            # Ctrl-C goes to the supervisor alone, which tells its workers.
            start_new_session=True,
        )
        worker.process = process
        if self._ending.is_set():
            with suppress(ProcessLookupError):
                process.terminate()
        assert process.stdin is not None and process.stdout is not None
        job = pickle.dumps(replace(self._job, number=worker.number))
        with suppress(OSError):
            process.stdin.write(LENGTH.pack(len(job)) + job)
            await process.stdin.drain()
        async for line in process.stdout:
            self._heard(worker, json.loads(line))
        code = await process.wait()
        worker.process = None
        return code

    def _heard(self, worker: Worker, said: dict[str, Any]) -> None:
        if "ready" in said:
            worker.index = said["ready"]
            worker.ready.set()
            return
        error = type("_Reported", (ServerError,), {"exit_code": said["code"]})
        worker.error = error(said["error"], said["hint"])


def _how(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
