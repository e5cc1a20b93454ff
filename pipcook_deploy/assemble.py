"""Writes the files of a bundle from what the tasks made."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipcook_deploy import __version__
from pipcook_deploy.bundle import CARD, MANIFEST, SUMS, sums
from pipcook_deploy.files import files_below, sha256
from pipcook_deploy.manifest import (
    ArtifactEntry,
    Manifest,
    SampleEntry,
    SourceEntry,
    StoredFile,
)
from pipcook_deploy.model import Model
from pipcook_deploy.model_card import render_card
from pipcook_deploy.planner import Step
from pipcook_deploy.samples import Samples
from pipcook_deploy.schedule import Outcome
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
class Built:
    """What the tasks of one run came to."""

    model: Model
    recipe: dict[str, Any]
    steps: dict[str, Step]
    samples: Samples
    outcome: Outcome
    source_runtime: str


def good_steps(steps: dict[str, Step], outcome: Outcome) -> dict[str, Step]:
    """The formats whose every conversion and check ended well."""
    return {format: step for format, step in steps.items() if _is_good(format, step, outcome)}


def write_bundle(built: Built, staging: Path) -> None:
    """Fill `staging/bundle` with artifacts, samples, card, manifest and sums."""
    bundle = staging / "bundle"
    entries = [
        _artifact(built, format, step, bundle)
        for format, step in good_steps(built.steps, built.outcome).items()
    ]
    manifest = Manifest(
        tools=_tool_versions(),
        spec=built.model.spec,
        source=_source(built),
        recipe=json.loads(json.dumps(built.recipe)),
        artifacts=tuple(entries),
        samples=_samples(built, staging, bundle),
        card=StoredFile(path=CARD, size=0, sha256=""),
    )
    (bundle / CARD).write_text(render_card(manifest))
    manifest = manifest.model_copy(update={"card": _stored(bundle / CARD, bundle)})
    (bundle / MANIFEST).write_text(manifest.dump())
    (bundle / SUMS).write_bytes(sums(bundle))


def _is_good(format: str, step: Step, outcome: Outcome) -> bool:
    needed = [f"convert {part.converter.format}" for part in step.chain]
    done = all(name in outcome.results for name in [*needed, f"measure {format}", "run source"])
    return done and not any(name.startswith(f"verify {format} (") for name in outcome.errors)


def _artifact(built: Built, format: str, step: Step, bundle: Path) -> ArtifactEntry:
    results = built.outcome.results
    data = results[f"convert {format}"]
    place = bundle / "artifacts" / format
    place.parent.mkdir(exist_ok=True)
    shutil.move(data["path"], place)
    verification = [
        result for name, result in results.items() if name.startswith(f"verify {format} (")
    ]
    return ArtifactEntry.model_validate(
        {key: data[key] for key in ("format", "model_format", "entry", "precision", "details")}
        | {
            "chain": [built.model.format, *(p.converter.format for p in step.chain)],
            "options": step.converter.model_dump(mode="json"),
            "inputs": data["inputs"],
            "outputs": data["outputs"],
            "files": results[f"measure {format}"],
            "verification": sorted(verification, key=lambda row: row.runtime),
        }
    )


def _samples(built: Built, staging: Path, bundle: Path) -> SampleEntry:
    samples, place = built.samples, bundle / "samples"
    place.mkdir()
    for part in ("inputs", "outputs"):
        save_tensors(place / part, load_tensors(staging / "samples" / part, samples.golden))
    for name, content in samples.encoded:
        (place / "encoded").mkdir(exist_ok=True)
        (place / "encoded" / name).write_bytes(content)
    labels = samples.labels
    return SampleEntry(
        origin=samples.origin,
        count=samples.golden,
        evaluated=len(samples),
        source_runtime=built.source_runtime,
        source_accuracy=built.outcome.results["run source"],
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
