"""Starts the server and ends it: one process, or a supervisor and its workers."""

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import UsageError
from pipcook_deploy.server.access.guard import Guard
from pipcook_deploy.server.access.sockets import allow_connections
from pipcook_deploy.server.access.tls import tls_files
from pipcook_deploy.server.job import Job
from pipcook_deploy.server.ports import free_port
from pipcook_deploy.server.process import run
from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings

Ready = Callable[[str, list[dict[str, Any]]], None]


def serve(
    served: ServedModel | Sequence[ServedModel] = (),
    *,
    repository: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 9091,
    settings: Settings | None = None,
    ready: Ready | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is in flight and return.

    `repository` is a folder NAME/VERSION of bundles that is followed. `ready` is called with the server's URL and
    `Control.index` as soon as it accepts connections. `port` 0 takes a free one. Raises `ServerError` if the port is taken
    or an artifact cannot be loaded, `UsageError` for settings that contradict each other, and
    `KeyboardInterrupt` for a second signal, without waiting for anything.
    """
    settings = settings or Settings()
    allow_connections(settings.max_connections)
    given = (served,) if isinstance(served, ServedModel) else tuple(served)
    tls_files(settings.tls_cert, settings.tls_key)
    _check_default(settings.default_model, given, repository)
    if settings.workers > 1:
        from pipcook_deploy.server.supervisor import supervise

        Guard(settings, host)  # what is wrong with it is said once
        supervise(Job(given, repository, host, port, settings), ready)
        return
    job = Job(given, repository, host, free_port(host, port), settings)
    run(job, _listen_to_signals, lambda index: ready(job.url, index) if ready else None)


def _check_default(name: str, given: Sequence[ServedModel], repository: Path | None) -> None:
    """In a repository it may come later."""
    names = {served.spec.name for served in given}
    if name and repository is None and name not in names:
        has = ", ".join(sorted(names))
        raise UsageError(f"--default-model: there is no model {name!r}", f"there is {has}")


def _listen_to_signals(end: Callable[[], None]) -> None:
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
