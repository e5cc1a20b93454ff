"""What is served: an artifact, what it is, and the answers that it was bundled with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compare import Tolerance
from pipcook_deploy.spec import ModelSpec

FORMATS = ("onnx", "tflite")  # what the server runs, the best first


@dataclass(frozen=True)
class Golden:
    """Golden inputs, the answers recorded for one artifact, and how far an engine may be from them."""

    inputs: Path
    outputs: Path
    tolerance: Tolerance


@dataclass(frozen=True)
class Candidate:
    """An artifact that can answer for a model; `digest` is of its files, "" where no manifest tells it."""

    artifact: Artifact
    golden: Golden | None = None
    digest: str = ""


@dataclass(frozen=True)
class ServedModel:
    """A spec, and the ONNX or TFLite artifact that answers for it; `others` may answer in its place."""

    spec: ModelSpec
    artifact: Artifact
    golden: Golden | None = None
    others: tuple[Candidate, ...] = ()
    digest: str = ""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every artifact that may answer, the preferred one first."""
        return (Candidate(self.artifact, self.golden, self.digest), *self.others)

    @classmethod
    def of_bundle(
        cls, bundle: Bundle, name: str | None = None, version: str | None = None
    ) -> "ServedModel":
        """The bundle's ONNX and TFLite artifacts; its files are not checked here.

        `name` and `version` replace the spec's own. Raises `BundleError` if it has neither format.
        """
        formats = [name for name in FORMATS if name in bundle.formats] or [FORMATS[0]]
        first, *others = (_candidate(bundle, format) for format in formats)
        changes = {"name": name, "version": version}
        spec = bundle.spec.model_copy(update={k: v for k, v in changes.items() if v is not None})
        return cls(spec, first.artifact, first.golden, tuple(others), first.digest)


def _candidate(bundle: Bundle, format: str) -> Candidate:
    entry = bundle.entry(format)
    golden = Golden(
        inputs=bundle.path / "samples" / "inputs",
        outputs=bundle.expected_outputs(format),
        tolerance=entry.verification[0].tolerance,
    )
    files = "".join(f"{file.path} {file.sha256}\n" for file in entry.files)
    digest = hashlib.sha256(files.encode()).hexdigest()
    return Candidate(entry.artifact(bundle.path), golden, digest)
