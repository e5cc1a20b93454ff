"""The stage's side of the workers: a function call in, its result or error out."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pipcook_deploy.errors import DeployError, MissingDependencyError, OutputError
from pipcook_deploy.jobs.child import DISK_FULL, revive
from pipcook_deploy.jobs.zygote import ENVIRONMENT

LIGHT = ("pipcook_deploy.steps",)  # what every job imports
HEAVY = (*LIGHT, "tensorflow", "keras")


class WorkerError(Exception):
    """A job ended by an error that no one foresaw, or by a signal. The log tells the rest."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message)
        self.log = log

    def tail(self, lines: int = 15) -> str:
        """The end of what the job printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.strip().splitlines()[-lines:])


class RunEndedError(Exception):
    """The run was left while a thread of it still worked: it ends there, whatever errors it may deal with."""


class Workers:
    """Runs jobs in child processes: one family with TensorFlow loaded, one without.

    Use as a context manager: leaving it ends every child. `call` may be used from several threads.
    `scratch` takes logs, results, and the temporary files of the jobs; whoever made it removes it.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._zygotes: dict[bool, _Zygote] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._closed = False

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
        for zygote in self._zygotes.values():
            zygote.close()

    def warm(self) -> None:
        """Start loading TensorFlow now, because a job will need it soon."""
        self._zygote(heavy=True)

    def call(self, function: str, arguments: dict[str, Any], *, heavy: bool) -> Any:
        """Run `function` ("module:name") in a child and return its JSON value.

        Raises what the function raised if it is a `DeployError`, `WorkerError` otherwise.
        """
        with self._lock:
            self._count += 1
            number = self._count
        log = self._scratch / f"job-{number}.log"
        result = self._scratch / f"job-{number}.json"
        request = {
            "id": number,
            "call": function,
            "args": arguments,
            "log": str(log),
            "result": str(result),
        }
        try:
            return _answer(self._zygote(heavy).run(request), result, log)
        except WorkerError:
            if self._closed:
                raise RunEndedError("the run has ended") from None
            raise

    def _zygote(self, heavy: bool) -> "_Zygote":
        with self._lock:
            if self._closed:  # a thread that goes on after an interrupt
                raise RunEndedError("the run has ended")
            if heavy not in self._zygotes:
                if heavy:
                    _require_tensorflow()
                self._zygotes[heavy] = _Zygote(heavy, self._scratch)
            return self._zygotes[heavy]


def _answer(status: int, result: Path, log: Path) -> Any:
    if status == -signal.SIGBUS:  # a mapped file that there is no room for
        status = DISK_FULL
    if status < 0:
        raise WorkerError(f"the worker was ended by {signal.Signals(-status).name}", log)
    if status == DISK_FULL:
        raise OutputError(
            f"{result.parent.parent}: the disk is full", "free some space or choose another --out"
        )
    if status != 0 or not result.exists():
        raise WorkerError(f"the worker ended with code {status} and no result", log)
    answer = json.loads(result.read_text())
    if "error" in answer:
        raise revive(answer["error"])
    if "bug" in answer:
        raise WorkerError(answer["bug"], log)
    return answer["value"]


def _require_tensorflow() -> None:
    from importlib.util import find_spec

    if find_spec("tensorflow") is None:
        raise MissingDependencyError(
            "converting needs TensorFlow, which is not installed",
            "run: pip install 'pipcook-deploy[tensorflow]'",
        )


class _Zygote:
    def __init__(self, heavy: bool, scratch: Path) -> None:
        self._log = scratch / f"zygote-{'heavy' if heavy else 'light'}.log"
        temporary = scratch / "tmp"
        temporary.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipcook_deploy.jobs.zygote", *(HEAVY if heavy else LIGHT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Jobs end without cleaning up (TensorFlow leaves a file for each traced function).
                env=os.environ | ENVIRONMENT | {"TMPDIR": str(temporary.absolute())},
                # Ctrl-C reaches the stage only, which then ends its workers in order.
                start_new_session=True,
            )
        self._waiting: dict[int, tuple[threading.Event, list[int]]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def run(self, request: dict[str, Any]) -> int:
        done: tuple[threading.Event, list[int]] = (threading.Event(), [])
        with self._lock:
            self._waiting[request["id"]] = done
            self._send(request)
        done[0].wait()
        if not done[1]:
            raise WorkerError("the worker process ended before the job did", self._log)
        return done[1][0]

    def close(self) -> None:
        stdin = self._pipe(self._process.stdin)
        with suppress(BrokenPipeError):
            stdin.close()
        # One that is still importing its frameworks does not look at its input, and has no children.
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=5)
        self._pipe(self._process.stdout).close()

    def _send(self, request: dict[str, Any]) -> None:
        stdin = self._pipe(self._process.stdin)
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            self._waiting.pop(request["id"])[0].set()

    def _read(self) -> None:
        for line in self._pipe(self._process.stdout):
            answer = json.loads(line)
            with self._lock:
                event, status = self._waiting.pop(answer["id"])
            status.append(answer["status"])
            event.set()
        with self._lock:
            for event, _ in self._waiting.values():
                event.set()

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:
            raise DeployError("the worker has no pipe")
        return stream
