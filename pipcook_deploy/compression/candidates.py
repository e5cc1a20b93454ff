"""What a search builds and measures, as data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converter import Converter
from pipcook_deploy.model import Model
from pipcook_deploy.report.entries import IntervalEntry
from pipcook_deploy.spec import Details

SOURCE = "source"


@dataclass(frozen=True)
class Variant:
    """A model that artifacts are written from: the source, or what passes made of it.

    `label` says it in words; `passes` are their names, in order, for the chain of the manifest.
    """

    key: str
    label: str
    model: Model
    passes: tuple[str, ...] = ()
    sparsity: float | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """An artifact of a variant; `files` is what `steps.measure_files` found."""

    key: str
    variant: Variant
    converter: Converter
    artifact: dict[str, Any]
    chain: tuple[str, ...]
    files: list[dict[str, Any]]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file["size"] for file in self.files)

    @property
    def wire_size(self) -> int:
        """Bytes on the wire, as brotli."""
        return sum(file["brotli"] for file in self.files)

    @property
    def precision(self) -> str:
        """What the weights are, in words: "uint8, 32 levels"."""
        return precision_of(self.artifact)

    @property
    def made(self) -> Artifact:
        """As the runtimes take it."""
        return Artifact.from_json(self.artifact)


def precision_of(artifact: dict[str, Any]) -> str:
    """The precision of an artifact, with what its converter says in `details["precision"]`."""
    return str(artifact["details"].get("precision", artifact["precision"]))


@dataclass(frozen=True)
class Judged:
    """Measured on one split, against the source's answers to the same samples."""

    split: str
    score: IntervalEntry
    drop: IntervalEntry
    samples: int
    changed: int
    answers: Path
    runtime: str


@dataclass
class Trial:
    """One candidate on its way through a search."""

    id: str
    format: str
    label: str
    precision: str
    options: dict[str, Any]
    build: Build | None = None
    cost: float = 0.0  # what the goal minimizes
    latency_ms: float | None = None
    selection: Judged | None = None
    verdict: Judged | None = None
    left_out: int = 0  # parts put back to float32
    reason: str | None = None
    state: str = "built"  # built, failed, out of budget, in budget, winner
    seconds: float = 0.0
