"""The parent of every worker: imports the heavy frameworks once, then forks a child for each job.

Run as `python -m pipcook_deploy.jobs.zygote [MODULE...]`. Requests arrive as JSON lines on standard
input, answers leave as JSON lines on standard output. A child that crashes takes nothing with it;
when standard input closes, because the stage ended or was killed, every child is ended too.

Where forking after loading native libraries is not safe (macOS), each job gets a fresh interpreter.
"""

import ctypes
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
FORK = sys.platform.startswith("linux")
ENVIRONMENT = {
    # oneDNN rewrites graphs into ops that no other runtime has (fused hard-swish).
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "TF_USE_LEGACY_KERAS": "0",
    # Frameworks order sets by hash: the same model must give the same bytes in every process.
    "PYTHONHASHSEED": "0",
}
# Keras loads them where they are installed, for what no job does: a third of the time that TensorFlow takes.
UNUSED = ("matplotlib", "sklearn")


def main(modules: Sequence[str]) -> int:
    """Serve requests until standard input closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with _hidden(UNUSED):
        for module in modules:
            importlib.import_module(module)
    _Zygote(answers).serve()
    return 0


@contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Packages that seem not to be installed for now; jobs may import them later."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: no such module
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class _Zygote:
    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._children: dict[int, int] = {}
        self._buffer = b""
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == 0:
                        self._read_requests()
                    else:
                        os.read(self._wake_read, 4096)
                self._reap()

    def _read_requests(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self._stop()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._start(json.loads(line))

    def _start(self, request: dict[str, Any]) -> None:
        pid = _fork(request) if FORK else _spawn(request)
        self._children[pid] = request["id"]

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            identifier = self._children.pop(pid, None)
            if identifier is not None:
                answer = {"id": identifier, "status": os.waitstatus_to_exitcode(status)}
                self._answers.write(json.dumps(answer) + "\n")

    def _stop(self) -> None:
        for child in self._children:
            # What a job started may lead a session of its own (Node does): the group is not enough.
            for pid in (*_descendants(child), child):
                for kill in (os.killpg, os.kill):
                    try:
                        kill(pid, signal.SIGKILL)
                    except (ProcessLookupError, PermissionError):
                        continue
        os._exit(0)


def _descendants(pid: int) -> list[int]:
    """Children of a process and theirs, as `/proc` tells them; none where there is no `/proc`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything; state and parent follow it.
            parents[int(entry.parent.name)] = int(entry.read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _redirect(request["log"])
        from pipcook_deploy.jobs.child import run

        code = run(request)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a full disk takes no more of the log
                stream.flush()
        os._exit(code)


def _die_with_parent() -> None:
    """So that nothing computes on for nobody when the zygote itself is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _spawn(request: dict[str, Any]) -> int:
    command = [sys.executable, "-m", "pipcook_deploy.jobs.child", json.dumps(request)]
    with open(request["log"], "ab") as log:  # noqa: PTH123
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
    return process.pid


def _redirect(log: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
