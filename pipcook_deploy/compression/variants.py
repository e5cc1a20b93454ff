"""The models that formats are written from: the source, equalized, pruned step by step, or as the user says."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any

from pipcook_deploy import plugins
from pipcook_deploy.compression.candidates import SOURCE, Judged, Trial, Variant
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.compression.workshop import require_layers
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError

KEPT_RUNGS = 3  # variants of the ladder that formats are searched with, the sparsest first
UNEVEN = 8.0  # channel ranges that differ so much within a kernel are worth equalizing
SENSITIVITY_SAMPLES = 256
FEWEST_STEPS = 300  # of training after each step of pruning
BITS = (8, 6, 5, 4, 3)
SPARSITIES = (0.5, 0.7, 0.9)

Step = Callable[[str, Callable[[], Any]], Any]  # runs something as a named, shown step


@dataclass
class Variants:
    """What was made of the source, the most compressed first; the source last, unless the user chose passes.

    `trials` are the measurements of models that are not written in any format yet, `sensitivity` the rows of
    the layer table, `notes` what was not possible and why.
    """

    found: list[Variant]
    trials: list[Trial] = field(default_factory=list)
    sensitivity: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_variants(lab: Lab, request: CompressionRequest, deadline: float, step: Step) -> Variants:
    """The user's passes in order, or the search's own ladder of sparsities."""
    source = lab.source_variant()
    made = Variants([source])
    model = lab.trainable()
    if model is None:
        if request.passes:
            require_layers(lab.source, lab.installed)
        made.notes.append(
            f"{lab.source.format} models have no layers to prune or train: only precisions were tried"
        )
        return made
    start = replace(source, model=model)
    if request.passes:
        made.sensitivity = _sensitivity(lab, start, step)
        made.found = [_chosen(lab, request, start, step)]
    elif request.budget is not None:
        _Ladder(lab, request.budget, made, deadline, step).climb(start)
    return made


def _chosen(lab: Lab, request: CompressionRequest, start: Variant, step: Step) -> Variant:
    variant, train = start, lab.data.splits.get("train")
    for model_pass in request.passes:
        before = variant
        variant = step(f"pass {model_pass.name}", partial(lab.apply, model_pass, before, train))
    return variant


def _sensitivity(lab: Lab, variant: Variant, step: Step) -> list[dict[str, Any]]:
    arguments = {
        "model": variant.model.to_json(),
        "split": lab.data.splits["calibration"].to_json(),
        "knobs": {"prune": list(SPARSITIES), "bits": list(BITS)},
        "samples": SENSITIVITY_SAMPLES,
        "seed": 0,
    }
    function = "pipcook_deploy.compression.sensitivity:measure"
    key = f"sensitivity of {variant.key}"
    rows: list[dict[str, Any]] = step(
        "sensitivity of each layer",
        lambda: lab.worked_out(function, arguments, key, heavy=True),
    )
    return rows


@dataclass
class _Ladder:
    """Prunes further and further, fine-tuning after each step, until the budget is spent."""

    lab: Lab
    budget: BudgetOptions
    made: Variants
    deadline: float
    step: Step
    longest: float = 0.0  # seconds that a rung took

    def climb(self, start: Variant) -> None:
        """Add what keeps the budget to the variants."""
        start = self._equalized(start)
        self.made.sensitivity = _sensitivity(self.lab, start, self.step)
        if self.budget.goal == "latency":
            self.made.notes.append(
                "no weights were pruned: no runtime here answers faster for zeros, and the goal is latency"
            )
            return
        good: list[Variant] = []
        for sparsity in self.budget.sparsities:
            last = good[-1] if good else start
            rung = self._rung(start, last, sparsity)
            if rung is None:
                break
            if not self._kept(rung):
                between = self._rung(start, last, _between(good, sparsity))
                good += [between] if between is not None and self._kept(between) else []
                break
            good.append(rung)
        self.made.found[:0] = good[: -KEPT_RUNGS - 1 : -1]

    def _equalized(self, start: Variant) -> Variant:
        """The start with channels of even ranges, if they were very uneven."""
        equalize = plugins.model_pass("equalize")()
        try:
            variant: Variant = self.step(
                "pass equalize", lambda: self.lab.apply(equalize, start, None)
            )
        except CompressionError as error:
            self.made.notes.append(f"not equalized: {error.message}")
            return start
        uneven = variant.details.get("uneven")
        if not isinstance(uneven, int | float) or uneven < UNEVEN:
            return start
        self.made.notes.append(
            f"the channels of a kernel differed in range by {uneven:.0f} times: equalized across layers, "
            "which leaves the function as it is"
        )
        self.made.found.insert(0, variant)
        return variant

    def _rung(self, start: Variant, last: Variant, sparsity: float) -> Variant | None:
        started = monotonic()
        if started + self.longest > self.deadline:
            self.made.notes.append(
                f"pruning ended before {sparsity:.0%}: the time left would not have been enough"
            )
            return None
        train = self.lab.data.splits.get("train")
        label = f"prune {sparsity:.0%}" + (" + fine-tuning" if train else "")
        arguments = self._arguments(start, last, sparsity)
        key = f"{last.key}>prune {sparsity} {self.budget.model_dump_json(include=_TRAINING)}"
        function = "pipcook_deploy.compression.ladder:climb"
        try:
            result = self.step(label, lambda: self.lab.made_by(function, arguments, key))
        except CompressionError as error:
            self.made.notes.append(f"{label}: {error.message}")
            return None
        self.longest = max(self.longest, monotonic() - started)
        return Variant(
            key,
            label if start.key == SOURCE else f"{start.label}, {label}",
            replace(result.model, spec=self.lab.source.spec),
            (*start.passes, "prune"),
            sparsity_of(result),
            result.details,
        )

    def _arguments(self, start: Variant, last: Variant, sparsity: float) -> dict[str, Any]:
        from pipcook_deploy.compression.allocation import allocate

        train = self.lab.data.splits.get("train")
        return {
            "source": start.model.to_json(),
            "model": last.model.to_json(),
            "train": None if train is None else train.to_json(),
            "sparsity": allocate(self.made.sensitivity, sparsity),
            "epochs": self._epochs(train),
            "learning_rate": self.budget.learning_rate,
            "batch": self.budget.batch,
            "seed": self.budget.seed,
        }

    def _epochs(self, train: Split | None) -> float:
        """As asked for; a small set is gone through more often, or too few steps would be taken."""
        if train is None:
            return 0.0
        return max(self.budget.epochs, FEWEST_STEPS * self.budget.batch / max(train.count, 1))

    def _kept(self, variant: Variant) -> bool:
        judged: Judged = self.step(
            f"measure {variant.label}", lambda: self.lab.judge_model(variant, "selection")
        )
        kept = judged.drop.value <= self.budget.max_drop
        self.made.trials.append(
            Trial(
                id=f"model-{len(self.made.trials) + 1}",
                format=variant.model.format,
                label=variant.label,
                precision="float32",
                options={},
                selection=judged,
                state="in budget" if kept else "out of budget",
            )
        )
        return kept


def sparsity_of(result: PassResult) -> float | None:
    """The share of zeros over all kernels, as the pass measured it."""
    value = result.details.get("sparsity")
    return float(value) if isinstance(value, int | float) else None


_TRAINING = {"epochs", "learning_rate", "batch", "seed"}


def _between(good: list[Variant], bad: float) -> float:
    return round(((good[-1].sparsity or 0.0) + bad) / 2, 3) if good else round(bad / 2, 3)
