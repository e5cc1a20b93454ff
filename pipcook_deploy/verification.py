"""Runs an artifact in one runtime, in a worker, and judges its answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipcook_deploy.compare import Tolerance, tolerance_for
from pipcook_deploy.errors import (
    DeployError,
    MissingDependencyError,
    OutputError,
    UnsupportedRuntimeError,
    VerificationError,
)
from pipcook_deploy.jobs.workers import WorkerError, Workers
from pipcook_deploy.manifest import VerificationEntry
from pipcook_deploy.schedule import Task
from pipcook_deploy.steps import checks_for


@dataclass(frozen=True)
class Check:
    """One artifact format in one variant of its runtime, by default the one that judges.

    `inputs` and `outputs` are folders of samples and of the answers expected; `labels` are the right answers, if
    known; `hint` is what to do when the answers differ.
    """

    format: str
    model_format: str
    inputs: Path
    outputs: Path
    hint: str
    variant: int = 0
    tolerance: Tolerance | None = None
    labels: list[int] | None = None

    @property
    def runtime(self) -> str:
        """Name of the variant: "tfjs-wasm"."""
        return checks_for(self.model_format)[self.variant].label

    @property
    def task(self) -> str:
        """What the progress display calls it."""
        return f"verify {self.format} ({self.runtime})"

    def run(self, artifact: dict[str, Any], workers: Workers) -> VerificationEntry:
        """Raises `VerificationError` when an answer differs or cannot be had.

        A variant other than the first that lacks what the artifact needs is recorded as unsupported.
        """
        tolerance = self.tolerance or tolerance_for(artifact["precision"])
        base: dict[str, Any] = {"runtime": self.runtime, "tolerance": tolerance, "samples": 0}
        try:
            answer = self._call(artifact, tolerance, workers)
        except (MissingDependencyError, OutputError):
            raise
        except (DeployError, WorkerError) as error:
            if isinstance(error, UnsupportedRuntimeError) and self.variant > 0:
                return VerificationEntry(**base, status="unsupported", reason=error.message)
            # A runtime that cannot open it speaks of a damaged file, at a place that is gone by now.
            reason = str(getattr(error, "message", error)).replace(f"{artifact['path']}/", "")
            raise VerificationError(
                f"{self.format}: {self.runtime} could not run it: {reason}",
                error.tail() if isinstance(error, WorkerError) else error.hint,
            ) from error
        wrong = [row for row in answer["outputs"] if not row["passed"]]
        if wrong:
            raise VerificationError("\n".join(map(self._explain, wrong)), self.hint)
        return VerificationEntry.model_validate(base | answer | {"status": "passed"})

    def _call(self, artifact: dict[str, Any], tolerance: Tolerance, workers: Workers) -> Any:
        runtime = checks_for(self.model_format)[self.variant]
        arguments = {
            "artifact": artifact,
            "variant": self.variant,
            "inputs": str(self.inputs),
            "outputs": str(self.outputs),
            "tolerance": tolerance.model_dump(mode="json"),
            "labels": self.labels,
        }
        call = "pipcook_deploy.steps:run_artifact"
        return workers.call(call, arguments, heavy=runtime.heavy)

    def _explain(self, row: dict[str, Any]) -> str:
        where = f"output {row['name']!r} of sample {row['worst_sample']}"
        return f"{self.format}: {where} in {self.runtime}: {row['reason']}"


def variants_of(model_format: str) -> range:
    """Numbers of the variants that a format is checked in."""
    return range(len(checks_for(model_format)))


def verifications(
    check: Check,
    artifact: Callable[[Mapping[str, Any]], dict[str, Any]],
    workers: Workers,
    after: tuple[str, ...] = (),
) -> list[Task]:
    """The same check in each way to run its format, as tasks that give a `VerificationEntry`.

    `artifact` finds what is checked among the results of the tasks named in `after`.
    """

    def task(one: Check) -> Task:
        return Task(one.task, lambda results: one.run(artifact(results), workers), after)

    numbers = variants_of(check.model_format)
    return [task(replace(check, variant=number)) for number in numbers]


def joined(errors: list[DeployError]) -> DeployError | None:
    """One error that tells all of them, of the first one's kind; None if there are none."""
    if len(errors) < 2:
        return errors[0] if errors else None
    told = dict.fromkeys(f"{e.message}\n  {e.hint}" if e.hint else e.message for e in errors)
    error = DeployError.__new__(type(errors[0]))
    DeployError.__init__(error, "\n".join(told))
    return error
