"""Verifies a bundle again: later, anywhere, on the runtimes that are there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.bundle_safety import check_models
from pipcook_deploy.errors import BundleError, SourceError, UsageError
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.manifest import ArtifactEntry, VerificationEntry
from pipcook_deploy.schedule import Listener, Outcome, Task, run_tasks
from pipcook_deploy.text import did_you_mean
from pipcook_deploy.verification import Check, joined, variants_of


def verify_bundle(
    path: Path | str,
    *,
    only: Sequence[str] = (),
    trusted: bool = False,
    jobs: int = 2,
    listener: Listener | None = None,
) -> dict[str, list[VerificationEntry]]:
    """Check every byte, then run each artifact on the golden samples and compare with the source's answers.

    `only` names the formats to run (all by default); artifacts that carry code run only if `trusted`.
    Raises `BundleError` for changed files and for artifacts that are not what the manifest says,
    `MissingDependencyError` if a runtime is not installed, `VerificationError` if an answer differs.
    """
    bundle = Bundle.open(path)
    for name in only:
        if name not in bundle.formats:
            near = did_you_mean(name, bundle.formats)
            raise UsageError(f"{path}: has no {name} artifact{near}")
    bundle.check_files()
    entries = [entry for entry in bundle.manifest.artifacts if not only or entry.format in only]
    check_models(bundle, entries, trusted=trusted)
    _check_samples(bundle)
    with tempfile.TemporaryDirectory() as scratch, Workers(Path(scratch)) as workers:
        tasks = [
            _task(bundle, entry, variant, workers)
            for entry in entries
            for variant in variants_of(entry.model_format)
        ]
        outcome = run_tasks(tasks, jobs=jobs, listener=listener or Listener())
    return _collect(entries, outcome)


def _task(bundle: Bundle, entry: ArtifactEntry, variant: int, workers: Workers) -> Task:
    check = Check(
        format=entry.format,
        model_format=entry.model_format,
        variant=variant,
        inputs=bundle.path / "samples" / "inputs",
        outputs=bundle.expected_outputs(entry.format),
        hint="this machine's runtime answers otherwise than the source did: do not serve it here",
        tolerance=entry.verification[0].tolerance,
    )
    artifact = entry.artifact(bundle.path).to_json()

    def run(_: object) -> VerificationEntry:
        try:
            return check.run(artifact, workers)
        except SourceError as error:  # of a runtime that cannot open it
            raise BundleError(error.message, error.hint) from error

    return Task(check.task, run)


def _check_samples(bundle: Bundle) -> None:
    spec = bundle.spec
    parts = (
        ("inputs", bundle.golden_inputs(), spec.inputs),
        ("outputs", bundle.golden_outputs(), spec.outputs),
    )
    counts = set()
    for part, tensors, wanted in parts:
        if set(tensors) != {tensor.name for tensor in wanted}:
            raise BundleError(f"{bundle.path}: samples/{part}: are not those of the model")
        counts |= {len(value) if value.ndim else 0 for value in tensors.values()}
    if counts != {bundle.manifest.samples.count} or counts == {0}:
        raise BundleError(f"{bundle.path}: samples: are not as many as the manifest says")


def _collect(
    entries: Sequence[ArtifactEntry], outcome: Outcome
) -> dict[str, list[VerificationEntry]]:
    failure = joined(list(outcome.errors.values()))
    if failure:
        raise failure
    return {
        entry.format: [
            result
            for name, result in outcome.results.items()
            if name.startswith(f"verify {entry.format} (")
        ]
        for entry in entries
    }
