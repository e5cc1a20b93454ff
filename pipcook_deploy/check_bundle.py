"""Verifies a bundle again: later, anywhere, on the runtimes that are there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import UsageError
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.manifest import ArtifactEntry, VerificationEntry
from pipcook_deploy.schedule import Listener, Outcome, Silence, Task, run_tasks
from pipcook_deploy.text import did_you_mean
from pipcook_deploy.verification import Check, joined, variants_of


def verify_bundle(
    path: Path | str,
    *,
    only: Sequence[str] = (),
    jobs: int = 2,
    listener: Listener | None = None,
) -> dict[str, list[VerificationEntry]]:
    """Check every byte, then run each artifact on the golden samples and compare with the source's answers.

    `only` names the formats to run (all by default). Raises `BundleError` for changed files,
    `MissingDependencyError` if a runtime is not installed, `VerificationError` if an answer differs.
    """
    bundle = Bundle.open(path)
    for name in only:
        if name not in bundle.formats:
            near = did_you_mean(name, bundle.formats)
            raise UsageError(f"{path}: has no {name} artifact{near}")
    bundle.check_files()
    entries = [entry for entry in bundle.manifest.artifacts if not only or entry.format in only]
    with tempfile.TemporaryDirectory() as scratch, Workers(Path(scratch)) as workers:
        tasks = [
            _task(bundle, entry, variant, workers)
            for entry in entries
            for variant in variants_of(entry.model_format)
        ]
        outcome = run_tasks(tasks, jobs=jobs, listener=listener or Silence())
    return _collect(entries, outcome)


def _task(bundle: Bundle, entry: ArtifactEntry, variant: int, workers: Workers) -> Task:
    check = Check(
        format=entry.format,
        model_format=entry.model_format,
        variant=variant,
        samples=bundle.path / "samples",
        hint="this machine's runtime answers otherwise than the source did: do not serve it here",
        tolerance=entry.verification[0].tolerance,
    )
    artifact = entry.artifact(bundle.path).to_json()
    return Task(check.task, lambda _: check.run(artifact, workers))


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
