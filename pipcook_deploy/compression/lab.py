"""Judges what a workshop made; whatever was measured is remembered, also for the next run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.compression.candidates import SOURCE, Build, Judged, Variant
from pipcook_deploy.compression.workshop import JUDGING, Workshop, short_name
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.files import files_below
from pipcook_deploy.jobs.workers import WorkerError
from pipcook_deploy.model import Model
from pipcook_deploy.planner import plan
from pipcook_deploy.report.entries import IntervalEntry
from pipcook_deploy.sources.files import source_hash
from pipcook_deploy.steps import runtime_for


@dataclass
class Lab(Workshop):
    """Where a search works: it builds candidates and judges them."""

    def reference(self, split: str) -> Path:
        """The source's own answers to a split."""
        return self._answers(self._reference_model(), split)[0]

    def source_score(self, split: str) -> Judged:
        """How good the source is."""
        return self._judge(split, *self._answers(self._reference_model(), split))

    def judge(self, build: Build, split: str, count: int | None = None) -> Judged:
        """How good an artifact is, in its own runtime, and what it lost against the source.

        With `count`, on the first samples of the split only, which are as mixed as all of them.
        """
        return self._judge(split, *self._answers(build, split, count), count)

    def judge_model(self, variant: Variant, split: str) -> Judged:
        """The same for a model that is not written in any format yet."""
        return self._judge(split, *self._answers(variant.model, split))

    def answers(self, subject: Build | Model, inputs: Path, key: str) -> Path:
        """The folder of answers to a folder of tensors, which may hold others in the next run."""
        content = source_hash(files_below(inputs), inputs)
        return self._answered(subject, inputs, f"{key} {content}")[0]

    def _judge(self, split: str, answers: Path, runtime: str, count: int | None = None) -> Judged:
        part = self.data.splits[split]
        before = self.reference(split)
        arguments = {
            "spec": self.source.spec.model_dump(mode="json"),
            "split": part.to_json(),
            "metric": self.metric,
            "before": str(before),
            "after": str(answers),
            "count": count,
        }
        key = f"judge {self.metric} {part.sha256} {answers.name} against {before.name}"
        value = self.worked_out(f"{JUDGING}:judge", arguments, key, heavy=False)
        score, drop = (_interval(value[name]) for name in ("score", "drop"))
        changed, samples = (int(value["drop"][name]) for name in ("changed", "samples"))
        return Judged(split, score, drop, samples, changed, answers, runtime)

    def _answers(
        self, subject: Build | Model, split: str, count: int | None = None
    ) -> tuple[Path, str]:
        part = self.data.splits[split]
        key = part.sha256 if count is None else f"{part.sha256} first {count}"
        return self._answered(subject, part.folder / "inputs", key, count)

    def _answered(
        self, subject: Build | Model, inputs: Path, key: str, count: int | None = None
    ) -> tuple[Path, str]:
        what: dict[str, Any]
        if isinstance(subject, Build):
            function = "answer_artifact"
            what = {"artifact": subject.artifact, "count": count}
            format, name = subject.artifact["model_format"], subject.key
        else:
            function, what = "answer_model", {"model": subject.to_json()}
            format, name = subject.format, f"{subject.format} {self._name_of(subject)}"
        folder = self.journal.folder / "answers" / short_name(f"{name} {key}")

        def make() -> Any:
            self.journal.place(f"answers/{folder.name}").rmdir()
            arguments = {"inputs": str(inputs), "outputs": str(folder)}
            heavy = runtime_for(format).heavy
            return self.call(f"{JUDGING}:{function}", what | arguments, heavy=heavy)

        try:
            return folder, self.journal.remember(f"answer {name} {key}", make)["runtime"]
        except WorkerError as error:
            raise CompressionError(f"{name}: gives no answers: {error}", error.tail()) from error

    def _name_of(self, model: Model) -> str:
        """Where a model is, below the journal's folder; the source may be unpacked elsewhere each time."""
        if model.path == self.source.path:
            return SOURCE
        return model.path.relative_to(self.journal.folder).as_posix()

    def _reference_model(self) -> Model:
        """The source in a form that answers thousands of samples: TF.js models go through TensorFlow.

        That those answer alike is proven on the golden samples before any search begins.
        """
        if not self.source.format.startswith("tfjs"):
            return self.source
        wanted = [kind() for kind in self.installed if kind.format == "saved_model"]
        step = plan(self.source.format, wanted, self.installed, self.source.details)
        return self.after(self.source_variant(), step["saved_model"])


def _interval(row: dict[str, Any]) -> IntervalEntry:
    return IntervalEntry(value=row["value"], low=row["low"], high=row["high"])
