"""Prepares the user's data: one stream from files to disjoint splits on disk."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.division import cut, even_order
from pipcook_deploy.data.filling import Filled, Progress, fill
from pipcook_deploy.data.given import open_given
from pipcook_deploy.data.open_source import open_source, part_of
from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.data.preparation import Preparation
from pipcook_deploy.data.prepared import PreparedData, hash_of
from pipcook_deploy.data.source import Source
from pipcook_deploy.data.split import Split
from pipcook_deploy.data.targets import TargetKind, class_count
from pipcook_deploy.data.writer import SplitWriter, writing
from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics.classes import class_name
from pipcook_deploy.spec import ModelSpec

ROLES = ("evaluation", "calibration", "train")
SPLITS = ("train", "calibration", "selection", "verdict")
SCRATCH = ".scratch"
MOST_TAKEN = 4  # calibration takes at most one sample in four from a set that has another use


def prepare_data(
    spec: ModelSpec,
    options: DataOptions,
    folder: Path,
    given: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PreparedData:
    """Write the splits below `folder`, one folder each; the same data, options and seed give the same bytes.

    `given` holds Python data by role ("evaluation", "calibration", "train") and goes before the paths. Calibration
    is taken from its own data, else out of the training data, else out of the evaluation data. `progress` gets
    what is filled, how many samples are done, and of how many.

    Raises `UsageError` for data that does not fit the model, naming the file; `OutputError` on a full disk.
    """
    scratch = folder / SCRATCH
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*SPLITS, SCRATCH):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    try:
        return _Preparing(spec, options, folder, given or {}, progress or _silent).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_data(spec: ModelSpec, options: DataOptions) -> tuple[TargetKind, int]:
    """What the evaluation data says, and how many samples would give the verdict; no sample is read.

    Raises the `UsageError` of data that is missing, cannot be opened, is not labelled, or too little to divide.
    """
    with tempfile.TemporaryDirectory() as folder:
        preparing = _Preparing(spec, options, Path(folder), {}, _silent)
        return preparing.check()


class _Preparing:
    """The state of one run: which samples are in which split, and what there is to say."""

    def __init__(
        self,
        spec: ModelSpec,
        options: DataOptions,
        folder: Path,
        given: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self.spec, self.options, self.folder = spec, options, folder
        self.progress, self.preparation = progress, Preparation(spec)
        self.splits: dict[str, Split] = {}
        self.seen: dict[bytes, str] = {}
        self.bad: list[str] = []
        self.notes: list[str] = []
        self.sources = self._open(given)

    def run(self) -> PreparedData:
        """Evaluation first: what is in it must be nowhere else."""
        self._check_kinds()
        self._divide_evaluation()
        if "calibration" in self.sources:
            source = self.sources["calibration"]
            order = even_order(source.classes(), len(source), self.options.seed)
            self._fill("calibration", {"calibration": order[: self.options.calibration_samples]})
        if "train" in self.sources:
            self._divide_train()
        self._say_missing_classes()
        splits = {name: self.splits[name] for name in SPLITS if name in self.splits}
        origin = ", ".join(f"{role} from {source.origin}" for role, source in self.sources.items())
        return PreparedData(
            splits, tuple(self.bad), origin, hash_of(splits), tuple(dict.fromkeys(self.notes))
        )

    def check(self) -> tuple[TargetKind, int]:
        """As far as it goes without reading samples."""
        self._check_kinds()
        kind = self.sources["evaluation"].kind
        if kind is None:
            raise AssertionError("checked")
        return kind, self._evaluation_sizes()["verdict"]

    def _open(self, given: Mapping[str, Any]) -> dict[str, Source]:
        unknown = set(given) - set(ROLES)
        if unknown:
            raise UsageError(f"data: {unknown.pop()!r} is none of {', '.join(ROLES)}")
        paths = {role: _path(role, self.options, given) for role in ROLES}
        if paths["evaluation"] is None and given.get("evaluation") is None:
            raise UsageError(
                "[data] evaluation is missing: nothing says how good the model is",
                "name labelled samples that it never learned from: [data] evaluation = '...'",
            )
        parts = {
            role: part_of(path, role, self.spec) for role, path in paths.items() if path is not None
        }
        if parts.get("calibration") == parts.get("train"):
            parts.pop("calibration", None)  # from the training data, and out of it: as without
        _check_apart(parts)
        return {
            role: self._source(role, given, parts)
            for role in ROLES
            if self._has(role, given, parts)
        }

    def _has(self, role: str, given: Mapping[str, Any], parts: Mapping[str, Path]) -> bool:
        return role in parts or (given.get(role) is not None and not _is_path(given[role]))

    def _source(self, role: str, given: Mapping[str, Any], parts: Mapping[str, Path]) -> Source:
        scratch = self.folder / SCRATCH / role
        self.progress(f"open {role}", 0, None)
        if role in parts:
            labels = {
                "evaluation": self.options.evaluation_labels,
                "train": self.options.train_labels,
            }
            found = open_source(self.spec, parts[role], labels.get(role), self.options, scratch)
        else:
            found = open_given(
                given[role], role, self.spec, self.options.label, self._most(role, given), scratch
            )
        self.notes += found.notes
        if len(found) == 0:
            raise UsageError(f"[data] {role}: {found.origin}: there are no samples in it")
        return found

    def _most(self, role: str, given: Mapping[str, Any]) -> int | None:
        """How many samples of an endless stream are wanted."""
        if role == "calibration":
            return self.options.calibration_samples
        limit = self.options.limit if role == "evaluation" else self.options.train_limit
        return None if limit is None else limit + self.options.calibration_samples

    def _check_kinds(self) -> None:
        kind = self.sources["evaluation"].kind
        for role in ("evaluation", "train"):
            source = self.sources.get(role)
            if source is not None and source.kind is None:
                raise UsageError(
                    f"[data] {role}: {source.origin}: nothing says what is right: {source.unlabelled}",
                    f"label the samples, or name where the labels are: [data] label, {role}_labels",
                )
            if source is not None and source.kind != kind:
                raise UsageError(
                    f"[data] {role}: {source.origin}: its labels are {source.kind}, those of the "
                    f"evaluation data {kind}"
                )

    def _divide_evaluation(self) -> None:
        source, options = self.sources["evaluation"], self.options
        order = even_order(source.classes(), len(source), options.seed)
        self._fill("evaluation", cut(order, self._evaluation_sizes()))

    def _evaluation_sizes(self) -> dict[str, int]:
        source, options = self.sources["evaluation"], self.options
        sizes: dict[str, int] = {}
        if "calibration" not in self.sources and "train" not in self.sources:
            sizes["calibration"] = self._taken("evaluation", len(source))
        left = len(source) - sum(sizes.values())
        left = left if options.limit is None else min(left, options.limit)
        if left < 2:
            raise UsageError(
                f"[data] evaluation: {source.origin}: {len(source)} samples cannot be divided",
                "give more labelled samples: a search sees one part, the verdict comes from the other",
            )
        sizes["selection"] = min(max(1, round(left * options.selection)), left - 1)
        sizes["verdict"] = left - sizes["selection"]
        return sizes

    def _divide_train(self) -> None:
        source, options = self.sources["train"], self.options
        order = even_order(source.classes(), len(source), options.seed)
        sizes: dict[str, int] = {}
        if "calibration" not in self.sources:
            sizes["calibration"] = self._taken("train", len(order))
        left = len(order) - sum(sizes.values())
        sizes["train"] = left if options.train_limit is None else min(left, options.train_limit)
        self._fill("train", cut(order, sizes))

    def _taken(self, role: str, count: int) -> int:
        wanted = self.options.calibration_samples
        taken = min(wanted, max(1, count // MOST_TAKEN))
        short = f"; {wanted:,} were wanted" if taken < wanted else ""
        self.notes.append(f"calibration is taken out of the {role} data{short}")
        return taken

    def _fill(self, role: str, numbers: dict[str, NDArray[Any]]) -> None:
        source = self.sources[role]
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(SplitWriter(self.folder / name, name, source.kind))
                for name in numbers
            }
            found = fill(
                source,
                self.preparation,
                numbers,
                writers,
                self.seen,
                self.options.bad_limit,
                self.progress,
            )
        self.bad += found.bad
        self._check_filled(role, writers.values(), found)
        self.splits |= {name: writer.split() for name, writer in writers.items()}

    def _check_filled(self, role: str, writers: Iterable[SplitWriter], found: Filled) -> None:
        empty = [writer.name for writer in writers if not writer.count]
        if found.leaked and not empty:
            self.notes.append(
                f"{found.leaked:,} samples of the {role} data are in another split too: left out of {role}"
            )
        if empty:
            why = (
                f"{found.leaked:,} are in another split, {len(found.bad):,} are bad, "
                "and equal samples stay together"
            )
            raise UsageError(
                f"[data] {role}: no sample is left for {empty[0]}: {why}",
                "give more samples that differ, and other ones to each role",
            )

    def _say_missing_classes(self) -> None:
        if self.sources["evaluation"].kind != "class":
            return
        for name in ("selection", "verdict"):
            present = set(np.unique(self.splits[name].targets()).tolist())
            missing = [n for n in range(class_count(self.spec) or 0) if n not in present]
            if missing:
                said = ", ".join(class_name(self.spec, number) for number in missing[:5])
                more = ", ..." if len(missing) > 5 else ""
                self.notes.append(f"{name} has no sample of {len(missing)} classes: {said}{more}")


def _path(role: str, options: DataOptions, given: Mapping[str, Any]) -> Path | None:
    value = given.get(role)
    if value is not None:
        return Path(value) if _is_path(value) else None
    path: Path | None = getattr(options, role)
    return path


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path)


def _check_apart(parts: Mapping[str, Path]) -> None:
    evaluation = parts.get("evaluation")
    for role in ("train", "calibration"):
        if evaluation is not None and role in parts:
            one, other = evaluation.resolve(), parts[role].resolve()
            if one == other:
                raise UsageError(
                    f"[data] {role} and evaluation are the same data: {evaluation}",
                    "a model is judged by samples that it never learned from: name two sets, or leave "
                    f"{role} out",
                )


def _silent(what: str, done: int, total: int | None) -> None:
    """Progress that nobody wants."""
