"""The manifest of a bundle: everything known about it, as versioned data.

`manifest.schema.json` beside this file is its JSON schema, made from these classes by
`python -m pipcook_deploy.manifest`.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.bundle_safety import folder_name, inside, inside_or_all
from pipcook_deploy.compare import Tolerance
from pipcook_deploy.errors import BundleError
from pipcook_deploy.options import Options
from pipcook_deploy.report.entries import BenchEntry, IntervalEntry
from pipcook_deploy.spec import ModelSpec, known_dtype

MANIFEST_VERSION = 1
SCHEMA = Path(__file__).with_name("manifest.schema.json")


class StoredFile(Options):
    """A file of the bundle; `size` is bytes."""

    path: Annotated[str, AfterValidator(inside)]
    size: int
    sha256: str


class FileEntry(StoredFile):
    """A file that is shipped: `gzip` and `brotli` are the bytes that the wire would carry."""

    gzip: int
    brotli: int


class TensorBinding(Options):
    """A tensor by the spec's name and by the artifact's own."""

    name: str
    tensor: str
    dtype: Annotated[str, AfterValidator(known_dtype)]
    shape: tuple[int | None, ...]


class OutputEntry(Options):
    """How one output of an artifact differs from the source's."""

    name: str
    max_abs: float | None
    max_rel: float | None
    agreement: float | None
    worst_sample: int
    passed: bool
    reason: str | None


class VerificationEntry(Options):
    """One artifact in one runtime. `unsupported` says why that runtime cannot run it."""

    runtime: str
    status: Literal["passed", "failed", "unsupported"]
    samples: int
    tolerance: Tolerance
    outputs: tuple[OutputEntry, ...] = ()
    accuracy: float | None = None
    reason: str | None = None


class BlessingEntry(Options):
    """The verdict that let a compressed artifact in: measured on samples that no choice was made with.

    `drop` is what the metric lost against the source on the same samples, positive is worse, in the metric's own
    unit; all three intervals are of 95 %. `data_sha256` is over the inputs and the right answers.
    """

    metric: str
    source: IntervalEntry
    value: IntervalEntry
    drop: IntervalEntry
    max_drop: float | None
    samples: int
    data_sha256: str


class CompressionEntry(Options):
    """How an artifact was made smaller: the passes in words, and the float32 artifact that it replaces."""

    model: str
    sparsity: float | None
    float_size: int
    float_wire_size: int
    blessed_by: BlessingEntry | None


class ArtifactEntry(Options):
    """An artifact: its files below `artifacts/<format>/` and the proof that it answers right."""

    format: Annotated[str, AfterValidator(folder_name)]
    model_format: str
    entry: Annotated[str, AfterValidator(inside_or_all)]
    precision: str
    chain: tuple[str, ...]
    options: dict[str, JsonValue]
    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    details: dict[str, JsonValue]
    files: tuple[FileEntry, ...]
    verification: tuple[VerificationEntry, ...]
    compression: CompressionEntry | None = None

    @model_validator(mode="after")
    def _proven(self) -> "ArtifactEntry":
        if not self.verification:
            raise ValueError(f"{self.format} was never verified")
        files = [file.path for file in self.files]
        whole = self.entry == "." and files
        if not whole and not any(f == self.entry or f.startswith(f"{self.entry}/") for f in files):
            raise ValueError(f"the entry {self.entry!r} of {self.format} is not among its files")
        return self

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.files)

    @property
    def wire_size(self) -> int:
        """Bytes on the wire, as brotli."""
        return sum(file.brotli for file in self.files)

    @property
    def accuracy(self) -> float | None:
        """Of the runtime that judged the most samples."""
        rated = [entry for entry in self.verification if entry.accuracy is not None]
        return max(rated, key=lambda entry: entry.samples).accuracy if rated else None

    @property
    def largest_difference(self) -> float:
        """Over every output in every runtime that runs it."""
        rows = [row for entry in self.verification for row in entry.outputs]
        return max((float("inf") if r.max_abs is None else r.max_abs for r in rows), default=0.0)

    def artifact(self, bundle: Path) -> Artifact:
        """As the runtimes take it."""

        def bindings(rows: tuple[TensorBinding, ...]) -> tuple[Binding, ...]:
            return tuple(Binding(row.name, row.tensor, row.dtype, row.shape) for row in rows)

        return Artifact(
            format=self.format,
            model_format=self.model_format,
            path=bundle / "artifacts" / self.format,
            entry=self.entry,
            inputs=bindings(self.inputs),
            outputs=bindings(self.outputs),
            precision=self.precision,
            details=self.details,
        )


class SampleEntry(Options):
    """The golden samples and the source's own answers: `samples/inputs`, `/outputs`, `/encoded`."""

    origin: str
    count: int
    evaluated: int
    source_runtime: str
    source_accuracy: float | None
    encoded: tuple[str, ...]
    labels: tuple[int, ...] | None
    files: tuple[StoredFile, ...]


class SourceEntry(Options):
    """What the bundle was made from."""

    name: str
    format: str
    sha256: str
    details: dict[str, JsonValue]


class Manifest(Options):
    """`manifest.json`. It holds no date and no path of the machine: same input, same bytes (but for `bench`)."""

    manifest_version: Literal[1] = 1
    tools: dict[str, str]
    spec: ModelSpec
    source: SourceEntry
    recipe: dict[str, JsonValue]
    artifacts: tuple[ArtifactEntry, ...]
    samples: SampleEntry
    card: StoredFile = Field(description="MODEL_CARD.md")
    report: tuple[StoredFile, ...] = ()
    bench: tuple[BenchEntry, ...] = Field(default=(), description="The fastest of a format first.")

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        formats = [artifact.format for artifact in self.artifacts]
        if len(set(formats)) != len(formats):
            raise ValueError("a format is there twice")
        inputs, outputs = ({t.name for t in ts} for ts in (self.spec.inputs, self.spec.outputs))
        for artifact in self.artifacts:
            bound = (artifact.inputs, inputs), (artifact.outputs, outputs)
            if any({row.name for row in rows} != names for rows, names in bound):
                raise ValueError(f"{artifact.format} has other inputs or outputs than the spec")
        return self

    def dump(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read and check; raises `BundleError` naming what is wrong."""
        try:
            if path.exists() and not path.is_file():
                raise BundleError(f"{path}: is not a file")  # a pipe would block for ever
            data: Any = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(
                f"{path.parent}: is not a bundle (no manifest.json)",
                "make one of a model: pipcook-deploy convert MODEL --to onnx --out DIR",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error
        version = data.get("manifest_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > MANIFEST_VERSION:
            raise BundleError(
                f"{path}: manifest version {version}; this program reads {MANIFEST_VERSION}",
                "run: pip install --upgrade pipcook-deploy",
            )
        if isinstance(version, int) and version < MANIFEST_VERSION:
            raise BundleError(
                f"{path}: manifest version {version}; this program reads {MANIFEST_VERSION}",
                "make the bundle again from its source",
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            place = f"{where}: " if where else ""
            raise BundleError(f"{path}: {place}{first['msg']}") from error


def schema() -> str:
    """The JSON schema of the manifest."""
    made = Manifest.model_json_schema(mode="serialization")
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made
    return json.dumps(made, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(SCHEMA.write_text(schema()) and 0)
