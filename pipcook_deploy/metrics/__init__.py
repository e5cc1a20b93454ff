"""How good answers are, and how sure that is."""

from typing import Any

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics.classification import Accuracy, MacroF1, Top5
from pipcook_deploy.metrics.detection import MeanAveragePrecision, MeanAveragePrecision50
from pipcook_deploy.metrics.measurable import check_measurable
from pipcook_deploy.metrics.metric import Drop, Known, Metric, Score
from pipcook_deploy.metrics.regression import Mae, Psnr, Rmse
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.text import did_you_mean

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Accuracy(),
        Top5(),
        MacroF1(),
        MeanAveragePrecision50(),
        MeanAveragePrecision(),
        Mae(),
        Rmse(),
        Psnr(),
    )
}

__all__ = [
    "METRICS", "Drop", "Known", "Metric", "Score", "check_measurable", "default_metric", "metric_called",
]  # fmt: skip


def metric_called(name: str) -> Metric:
    """The metric of that name; `UsageError` with what there is otherwise."""
    if name not in METRICS:
        raise UsageError(
            f"there is no metric {name!r}{did_you_mean(name, METRICS)}",
            f"choose one of {', '.join(METRICS)}",
        )
    return METRICS[name]


def default_metric(spec: ModelSpec, targets: Any = None) -> str:
    """What suits the task. Of a task that does not tell, the targets do, if given: whole numbers are classes;
    without them a model with labels, or with several scores, is taken to tell classes."""
    if spec.task == "object-detection":
        return "map"
    if spec.task == "image-to-image":
        return "psnr"
    if spec.task in ("image-classification", "text-classification") or spec.labels:
        return "accuracy"
    if targets is not None:
        return "accuracy" if targets.ndim == 1 and targets.dtype.kind in "iu" else "rmse"
    shape = spec.outputs[0].shape if spec.outputs else ()
    return "accuracy" if len(shape) == 2 and (shape[1] or 0) > 1 else "rmse"
