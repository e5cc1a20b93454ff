"""Refuses a budget that the data cannot measure, as soon as that can be told."""

from typing import Any

import numpy as np

from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.data.split import Split
from pipcook_deploy.data.targets import TargetKind
from pipcook_deploy.errors import SourceError, UsageError
from pipcook_deploy.metrics import METRICS, Known, Metric, check_measurable, metric_called
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

MOST_NUMBERS = 2_000_000  # of an answer: pictures of more samples would be tried out for long
TOLD = {"class": "classes", "numbers": "numbers", "objects": "objects with boxes"}
FEWEST = 30  # samples that tell how far errors spread


def kind_of(targets: Any) -> TargetKind:
    """What targets of a split are."""
    if isinstance(targets, list):
        return "objects"
    return "class" if targets.ndim == 1 and targets.dtype.kind in "iu" else "numbers"


def check_metric(name: str, budget: BudgetOptions, kind: TargetKind) -> None:
    """Raises `UsageError` for a metric of another kind of data, and for a loss of more than there is."""
    metric = metric_called(name)
    if _judges(metric) != kind and (_judges(metric), kind) != ("numbers", "class"):
        fitting = [other.name for other in METRICS.values() if _judges(other) == kind]
        raise UsageError(
            f"[budget] metric: {name} does not judge what the evaluation data says: {TOLD[kind]}",
            f"choose one of {', '.join(fitting)}",
        )
    if metric.best == 1 and budget.max_drop >= 1:
        raise UsageError(
            f"[budget] max_drop = {budget.max_drop:g} is all of {name}, which is a share of 1",
            "half a point is 0.005",
        )


def check_finite(answers: Tensors, split: Split, bad_limit: float) -> None:
    """Raises `SourceError` when the source answers more samples with NaN than may be bad: nothing can be judged by it."""
    wrong = np.zeros(split.count, np.bool_)
    for value in answers.values():
        if value.dtype.kind == "f" and value.ndim:
            wrong |= np.isnan(value).reshape(len(value), -1).any(axis=1)
    if wrong.sum() > bad_limit * split.count:
        first = split.origins()[int(wrong.argmax())]
        raise SourceError(
            f"the source model answers {wrong.sum():,} of {split.count:,} samples with NaN, {first} first",
            "look at its weights, and at the preprocessing of [model]",
        )


def _judges(metric: Metric) -> TargetKind:
    if metric.best != 1:
        return "numbers"
    return "objects" if metric.name.startswith("map") else "class"


def check_by_count(metric: Metric, budget: BudgetOptions, verdict: int) -> bool:
    """Raises `BudgetError`; False for a metric of which only the source's answers tell."""
    try:
        check_measurable(metric, budget.max_drop, verdict)
    except ValueError:
        return False
    return True


def check_by_answers(
    metric: Metric, budget: BudgetOptions, verdict: Split, answers: Tensors, spec: ModelSpec
) -> None:
    """The same from the source's own answers to the split. Raises `BudgetError`."""
    width = sum(int(np.prod(value.shape[1:])) for value in answers.values())
    count = min(verdict.count, max(FEWEST, MOST_NUMBERS // max(1, width)))
    some = {name: np.asarray(value[:count]) for name, value in answers.items()}
    known = Known(some, verdict.targets()[:count], spec)
    check_measurable(metric, budget.max_drop, verdict.count, known)
