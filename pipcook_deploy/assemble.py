"""Writes the files of a bundle from what the tasks made."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipcook_deploy import __version__
from pipcook_deploy.bundle import ANSWERS, CARD, MANIFEST, REPORT, SUMS, sums
from pipcook_deploy.files import files_below, sha256
from pipcook_deploy.manifest import (
    ArtifactEntry,
    CompressionEntry,
    Manifest,
    SampleEntry,
    SourceEntry,
    StoredFile,
    VerificationEntry,
)
from pipcook_deploy.model import Model
from pipcook_deploy.model_card import render_card
from pipcook_deploy.report.entries import BenchEntry
from pipcook_deploy.samples import Samples
from pipcook_deploy.tensors import load_tensors, save_tensors

TOOLS = (
    "ai-edge-litert",
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "tf-keras",
    "tf2onnx",
)


@dataclass(frozen=True)
class Made:
    """An artifact with its proof, ready to be bundled.

    `artifact` is an `Artifact` as data, `files` what `steps.measure_files` found. `answers`, of a compressed artifact,
    is the folder of its own answers to the golden inputs: later checks compare with them, since the source's differ.
    """

    format: str
    artifact: dict[str, Any]
    chain: tuple[str, ...]
    options: dict[str, Any]
    files: list[dict[str, Any]]
    verification: tuple[VerificationEntry, ...]
    compression: CompressionEntry | None = None
    answers: Path | None = None


@dataclass(frozen=True)
class Built:
    """What one run came to. `report` is the folder of the report's files, if one was written."""

    model: Model
    recipe: dict[str, Any]
    made: list[Made]
    samples: Samples
    source_runtime: str
    source_accuracy: float | None
    report: Path | None = None
    bench: tuple[BenchEntry, ...] = ()


def write_bundle(built: Built, staging: Path) -> None:
    """Fill `staging/bundle` with artifacts, samples, report, card, manifest and sums."""
    bundle = staging / "bundle"
    for made in built.made:
        place = bundle / "artifacts" / made.format
        place.parent.mkdir(exist_ok=True)
        if made.compression is None:
            shutil.move(made.artifact["path"], place)
        else:  # a search keeps what it made: the next run may start from it
            shutil.copytree(made.artifact["path"], place)
    manifest = Manifest(
        tools=_tool_versions(),
        spec=built.model.spec,
        source=_source(built),
        recipe=json.loads(json.dumps(built.recipe)),
        artifacts=tuple(map(_entry, built.made)),
        samples=_samples(built, staging, bundle),
        card=StoredFile(path=CARD, size=0, sha256=""),
        report=_report(built, bundle),
        bench=built.bench,
    )
    (bundle / CARD).write_text(render_card(manifest))
    manifest = manifest.model_copy(update={"card": _stored(bundle / CARD, bundle)})
    (bundle / MANIFEST).write_text(manifest.dump())
    (bundle / SUMS).write_bytes(sums(bundle))


def _entry(made: Made) -> ArtifactEntry:
    kept = ("format", "model_format", "entry", "precision", "details", "inputs", "outputs")
    return ArtifactEntry.model_validate(
        {key: made.artifact[key] for key in kept}
        | {
            "chain": made.chain,
            "options": made.options,
            "files": made.files,
            "verification": sorted(made.verification, key=lambda row: row.runtime),
            "compression": made.compression,
        }
    )


def _report(built: Built, bundle: Path) -> tuple[StoredFile, ...]:
    if built.report is None:
        return ()
    shutil.copytree(built.report, bundle / REPORT)
    return tuple(_stored(path, bundle) for path in files_below(bundle / REPORT))


def _samples(built: Built, staging: Path, bundle: Path) -> SampleEntry:
    samples, place = built.samples, bundle / "samples"
    place.mkdir()
    for part in ("inputs", "outputs"):
        save_tensors(place / part, load_tensors(staging / "samples" / part, samples.golden))
    for name, content in samples.encoded:
        (place / "encoded").mkdir(exist_ok=True)
        (place / "encoded" / name).write_bytes(content)
    for made in built.made:
        if made.answers is not None:
            own = load_tensors(made.answers, samples.golden)
            save_tensors(place / ANSWERS / made.format, own)
    labels = samples.labels
    return SampleEntry(
        origin=samples.origin,
        count=samples.golden,
        evaluated=len(samples),
        source_runtime=built.source_runtime,
        source_accuracy=built.source_accuracy,
        encoded=tuple(name for name, _ in samples.encoded),
        labels=None if labels is None else tuple(labels[: samples.golden]),
        files=tuple(_stored(path, place) for path in files_below(place)),
    )


def _source(built: Built) -> SourceEntry:
    model = built.model
    return SourceEntry(
        name=model.path.name, format=model.format, sha256=model.source_hash, details=model.details
    )


def _stored(path: Path, below: Path) -> StoredFile:
    name = path.relative_to(below).as_posix()
    return StoredFile(path=name, size=path.stat().st_size, sha256=sha256(path))


def _tool_versions() -> dict[str, str]:
    found = {"pipcook-deploy": __version__}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
