"""The peers: what peers.toml says of them, their environments, and how they are started."""

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import ROOT

from serving import debian
from serving.bodies import Answer, Request
from serving.debian import UnavailableError
from serving.process import Server, free_ports, running

HERE = Path(__file__).parent
LIST = HERE / "peers.toml"
FOLDER = HERE / "peers"
ENVIRONMENTS = ROOT / "dist" / "serving-peers"


@dataclass(frozen=True)
class Environment:
    """Packages that live together. `pins` are exact, and all of them."""

    name: str
    wants: Sequence[str]
    pins: Sequence[str]
    limits: Sequence[str] = ()
    interpreter: str = ""
    debian: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ENVIRONMENTS / self.name

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / "bin"

    def install(self) -> None:
        """Make it, unless it is there as pinned. Raises `UnavailableError`."""
        stamp = self.folder / "installed"
        wanted = "\n".join([self.interpreter or sys.version, *self.pins])
        if stamp.exists() and stamp.read_text("utf-8") == wanted:
            return
        print(f"installing {self.name} ...", file=sys.stderr, flush=True)
        stamp.unlink(missing_ok=True)
        self.make(["--no-deps", *self.pins])
        stamp.write_text(wanted, "utf-8")

    def make(self, requirements: Sequence[str]) -> None:
        """A virtual environment with these. pip is not in it: ours installs into it."""
        if self.debian:
            debian.install(self.debian)
        python = self.interpreter or sys.executable
        _succeed([python, "-m", "venv", "--clear", "--without-pip", self.folder])
        self.pip("install", "--quiet", *requirements)

    def pip(self, *arguments: str) -> str:
        """pip's output."""
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", self.bin / "python"]
        return _succeed([*pip, "--disable-pip-version-check", *arguments])


@dataclass(frozen=True)
class Peer:
    """One row of peers.toml."""

    name: str
    label: str
    environment: Environment
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    path: str = "/v2/models/mlp/infer"
    body: str = "oip"
    bar: float | None = None
    computes: bool = True
    of: Mapping[str, float] = field(default_factory=dict)

    @contextmanager
    def running(
        self, model: Path, request: Request, right: Callable[[Answer], str], logs: Path
    ) -> Iterator[Server]:
        """Started, and checked once. Raises `UnavailableError` with the reason why not."""
        self.environment.install()
        with tempfile.TemporaryDirectory() as scratch:
            ports = free_ports(3)
            words = {"bin": str(self.environment.bin), "scratch": scratch}
            words |= {f"port{i + 1 if i else ''}": str(port) for i, port in enumerate(ports)}
            own = {name: value.format(**words) for name, value in self.variables.items()}
            path = os.pathsep.join([words["bin"], os.environ["PATH"]])
            base = {"PATH": path, "MODEL": str(model), "PORT": str(ports[0])}
            with running(
                [part.format(**words) for part in self.command], ports[0], request, right,
                folder=FOLDER, environment=os.environ | base | own,
                log=logs / f"{self.name}.log",
            ) as server:  # fmt: skip
                yield server


def listed() -> tuple[dict[str, Environment], dict[str, Peer]]:
    """All environments and peers, in the file's order."""
    content: dict[str, Any] = tomllib.loads(LIST.read_text("utf-8"))
    environments = {
        name: Environment(name=name, **row) for name, row in content["environments"].items()
    }
    peers = {
        name: Peer(name=name, **row | {"environment": environments[row["environment"]]})
        for name, row in content["peers"].items()
    }
    return environments, peers


def _succeed(command: Sequence[str | Path]) -> str:
    words = [str(part) for part in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        lines = [x for x in done.stderr.splitlines() if not x.startswith("WARNING")]
        raise UnavailableError(f"{' '.join(words[1:3])}: {' '.join(lines)[-300:]}")
    return done.stdout
