"""The server of this project, started as its users do."""

import re
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measure import ENVIRONMENT, PROGRAM, ROOT

from serving.bodies import Answer, Request
from serving.models import Served
from serving.process import Server, free_ports, running

LOGS = ROOT / "dist" / "bench" / "logs"
TOKEN = "of-the-benchmark"  # whoever may administer the server


@dataclass(frozen=True)
class Chosen:
    """How the server decided to run a model on this machine, told by its metrics."""

    engine: str
    threads: int
    streams: int

    def __str__(self) -> str:
        return f"{self.engine} {self.streams} x {self.threads}"


def command(served: Served, port: int, *options: str | Path) -> list[str]:
    """`pipcook-deploy serve BUNDLE --port N`."""
    return _command(served.bundle, "--port", port, *options)


@contextmanager
def serving(
    served: Served,
    request: Request,
    right: Callable[[Answer], str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """Started, and checked once with `request`. Raises `UnavailableError` if it gives no right answer."""
    with _answering([served.bundle, *options], request, right or served.wrong) as server:
        yield server


@contextmanager
def following(
    repository: Path, request: Request, right: Callable[[Answer], str]
) -> Iterator[Server]:
    """The same of a repository; `TOKEN` may administer it."""
    with _answering(["--repository", repository], request, right) as server:
        yield server


def chosen(server: Server, served: Served) -> Chosen:
    """Raises `OSError` if it cannot be asked, `ValueError` if it does not say."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.port}/metrics", timeout=10
    ) as answer:  # fmt: skip
        return read_choice(answer.read().decode(), served.name)


def read_choice(metrics: str, name: str) -> Chosen:
    """Of a model that has one version. Raises `ValueError` if they do not tell."""

    def row(family: str) -> tuple[str, str]:
        wanted = rf'^pipcook_{family}\{{(.*model="{name}".*)\}} (\S+)$'
        found = re.search(wanted, metrics, re.MULTILINE)
        if found is None:
            raise ValueError(f"the metrics have no pipcook_{family} of {name}")
        return found[1], found[2]

    engine = re.search(r'(?:^|,)engine="([^"]*)"', row("model_info")[0])
    if engine is None:
        raise ValueError(f"the metrics do not tell the engine of {name}")
    threads, streams = (int(float(row(f"engine_{key}")[1])) for key in ("threads", "streams"))
    return Chosen(engine[1], threads, streams)


def _command(*arguments: object) -> list[str]:
    return [str(PROGRAM), "serve", *map(str, arguments)]


@contextmanager
def _answering(
    arguments: Sequence[object], request: Request, right: Callable[[Answer], str]
) -> Iterator[Server]:
    port = free_ports(1)[0]
    environment = {**ENVIRONMENT, "PIPCOOK_DEPLOY_ADMIN_TOKEN": TOKEN}
    with running(
        _command(*arguments, "--port", port), port, request, right,
        folder=ROOT, environment=environment, log=LOGS / "pipcook-deploy.log",
    ) as server:  # fmt: skip
        yield server
