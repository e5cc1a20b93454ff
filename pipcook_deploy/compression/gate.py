"""Refuses what is outside the budget, and says what would have to be relaxed."""

from pipcook_deploy.compression.candidates import SOURCE
from pipcook_deploy.compression.search import FormatSearch, best_of, is_among
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import BudgetError, ConversionError, DeployError
from pipcook_deploy.metrics import metric_called


def refusal(search: FormatSearch, *, has_train: bool, has_layers: bool = True) -> DeployError:
    """The error that ends a format for which nothing keeps the budget.

    `has_layers`: whether passes could change the source at all.
    """
    metric, budget = metric_called(search.lab.metric), search.budget
    allowed = metric.shown(budget.max_drop)
    head = f"{search.format}: nothing keeps the budget of {allowed} of {search.lab.metric}"
    best = best_of(search)
    judged = None if best is None else best.verdict or best.selection
    if best is None or judged is None:
        failed = [trial.reason for trial in search.trials if trial.reason]
        if failed:  # nothing was measured: that is no matter of the budget
            return ConversionError(f"{search.format}: {'; '.join(dict.fromkeys(failed))}")
        return BudgetError(f"{head}: nothing could be built in time", "raise [budget] time_limit")
    drop = judged.drop
    message = (
        f"{head}; the best, {best.label} in {best.precision}, loses {metric.shown(drop.value)} "
        f"(95 % interval {metric.shown(drop.low)} to {metric.shown(drop.high)}, "
        f"{judged.samples} samples)"
    )
    return BudgetError(
        message,
        "relax one: " + "; or ".join(_relaxations(search, drop.high, has_train, has_layers)),
    )


def _relaxations(
    search: FormatSearch, needed: float, has_train: bool, has_layers: bool
) -> list[str]:
    """What would let the best candidate in, the likeliest to help first."""
    rows = []
    plain = search.converter.uncompressed()
    if not is_among(plain, search.choices):
        rows.append(f"leave out {_chosen(search.converter, plain)}, so that a search may choose it")
    if not any(variant.key == SOURCE for variant in search.variants):
        rows.append(
            "ask less of [[compress]], or leave it out: then the search prunes as far as it can"
        )
    rows.append(f"set [budget] max_drop = {max(needed, search.budget.max_drop):.4f}")
    if not has_layers:
        rows.append(
            "start from the Keras file that this model was made from: its layers can be equalized and trained"
        )
    elif not has_train:
        rows.append("give [data] train, so that the model can be trained again after each change")
    return rows


def _chosen(converter: Converter, plain: Converter) -> str:
    """The options by which a user ruled float32 out."""
    other = [
        f"convert.{converter.format}.{name}"
        for name in type(converter).model_fields
        if name != "calibration" and getattr(converter, name) != getattr(plain, name)
    ]
    return " and ".join(other)
