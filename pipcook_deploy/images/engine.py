"""What container engines do for this package: build, look, run, push. One class an engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

Progress = Callable[
    [str, int, int | None], None
]  # what is done now, steps done, of how many if known

MOST_PIDS = 64
UNPRIVILEGED = "10001:10001"
TMPFS = {"/tmp": "size=64m,mode=1777"}  # noqa: S108 - the container's own


@dataclass(frozen=True)
class Layer:
    """A layer by the digest of its tar file; `size` is that file's bytes, `compressed` what a registry stores."""

    diff_id: str
    made_by: str
    size: int
    compressed: int | None = None


@dataclass(frozen=True)
class Image:
    """An image as an engine has it. `id` is the engine's name for the content."""

    id: str
    layers: tuple[Layer, ...]
    labels: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of all layers, uncompressed."""
        return sum(layer.size for layer in self.layers)

    @property
    def compressed(self) -> int | None:
        """Bytes of all layers as a registry stores them, where that is known."""
        sizes = [layer.compressed for layer in self.layers]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True)
class RunOptions:
    """How a container is run: locked down, as its user is told to run it."""

    port: int
    memory: int
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    host_port: int = 0
    pids: int = MOST_PIDS
    tmpfs: bool = True  # whether anything at all can be written to


@dataclass(frozen=True)
class Build:
    """A build: the context's folder, the name of the image, the time that all files and the image get."""

    context: Path
    tag: str
    epoch: int
    cache: bool = True


class Container(ABC):
    """A container that was started."""

    name: str

    @abstractmethod
    def address(self) -> tuple[str, int, bool]:
        """Host and port of the server, and whether a proxy of the engine's stands between."""

    @abstractmethod
    def running(self) -> bool:
        """Whether its process runs."""

    @abstractmethod
    def health(self) -> str:
        """`healthy`, `starting`, `unhealthy`, or "" where the engine makes no health checks."""

    @abstractmethod
    def logs(self) -> str:
        """What it has written."""

    @abstractmethod
    def execute(self, *command: str) -> tuple[int, str]:
        """Run a program in it; its exit code and what it said."""

    @abstractmethod
    def signal(self, name: str) -> None:
        """Send a signal such as SIGTERM to its first process."""

    @abstractmethod
    def wait(self, seconds: float) -> int | None:
        """Its exit code; None if it still runs after so long."""

    @abstractmethod
    def remove(self) -> None:
        """End it and take it away; it may be gone already."""


class Engine(ABC):
    """A container engine that answers."""

    name: ClassVar[str]
    runs: bool = True  # whether it can start what it builds

    @classmethod
    @abstractmethod
    def connect(cls) -> "Engine":
        """Raises `EngineMissingError` if it is not installed, or does not answer."""

    @abstractmethod
    def describe(self) -> str:
        """Name and version."""

    @abstractmethod
    def build(self, build: Build, progress: Progress) -> Image:
        """Raises `ImageError` with the end of what the builder said."""

    @abstractmethod
    def image(self, reference: str) -> Image | None:
        """An image by name or id; None if there is none."""

    @abstractmethod
    def tag(self, image: Image, reference: str) -> None:
        """Give the image one more name."""

    @abstractmethod
    def untag(self, reference: str) -> None:
        """Take a name from an image, and what no other image needs with it; it may be gone already."""

    @abstractmethod
    def start(self, image: Image, options: RunOptions) -> Container:
        """Raises `ImageError` if it cannot be started."""

    @abstractmethod
    def read(self, image: Image, path: str) -> bytes:
        """A file of the image. Raises `ImageError` if it has none."""

    @abstractmethod
    def save(self, image: Image, path: Path) -> None:
        """Write the image into a file, as `docker save` does. Raises `ImageError`, `OutputError`."""

    @abstractmethod
    def push(self, reference: str, progress: Progress) -> str:
        """Upload an image under one of its names; its digest, "sha256:...".

        Credentials are the engine's own affair. Raises `ImageError`.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""
