"""Refuses a budget that the data cannot measure, as soon as that can be told."""

import numpy as np

from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.data.split import Split
from pipcook_deploy.metrics import Known, Metric, check_measurable
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

MOST_NUMBERS = 2_000_000  # of an answer: pictures of more samples would be tried out for long
FEWEST = 30  # samples that tell how far errors spread


def check_by_count(metric: Metric, budget: BudgetOptions, verdict: Split) -> bool:
    """Raises `BudgetError`; False for a metric of which only the source's answers tell."""
    try:
        check_measurable(metric, budget.max_drop, verdict.count)
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
