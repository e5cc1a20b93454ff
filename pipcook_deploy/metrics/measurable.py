"""Whether a budget can be measured with the samples there are."""

from math import floor, log10

from pipcook_deploy.errors import BudgetError
from pipcook_deploy.metrics.metric import Known, Metric


def check_measurable(
    metric: Metric,
    max_drop: float,
    samples: int,
    known: Known | None = None,
    changed_share: float = 0.02,
) -> None:
    """Raises `BudgetError` when half the interval of a drop on `samples` samples is wider than `max_drop`.

    `known`, the source's answers, is needed by metrics that compare numbers, and sharpens map and macro_f1.
    """
    needed = metric.samples_needed(max_drop, changed_share, known)
    if needed <= samples:
        return
    half = metric.half_widths(max_drop, changed_share, known)(samples)
    why = f"a drop of {metric.title} is known to ± {metric.shown(half)} there"
    raise BudgetError(
        f"a budget of {metric.shown(max_drop)} cannot be measured on {samples:,} samples, as many as the verdict split has: "
        f"{why}; it needs about {_rounded_up(needed):,}",
        "give more samples in [data] evaluation, or more of them to the verdict (a smaller [data] selection), "
        f"or allow more: [budget] max_drop = {_two_digits(half)}",
    )


def _rounded_up(count: int) -> int:
    """To two digits: what an estimate is worth."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step


def _two_digits(value: float) -> str:
    """Rounded up, so that what is proposed is enough."""
    step = 10.0 ** (floor(log10(value)) - 1)
    return f"{(floor(value / step) + 1) * step:.2g}"
