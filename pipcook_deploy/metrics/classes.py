"""Which class a model answers: read from its first output, the same for every metric and report."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import UsageError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

Array = NDArray[Any]


def class_scores(outputs: Tensors, spec: ModelSpec, count: int) -> Array:
    """[n, classes] of the spec's first output; one column p is a binary answer and becomes 1 - p, p.

    Raises `UsageError` when that output has no such form.
    """
    name = spec.outputs[0].name if spec.outputs else next(iter(outputs), "")
    if name not in outputs:
        raise UsageError(f"the answers have no output {name!r} (found: {', '.join(outputs)})")
    value = np.asarray(outputs[name])
    if value.dtype.kind not in "biuf" or len(value) != count or count == 0:
        raise UsageError(
            f"the output {name!r} is {value.dtype} {list(value.shape)}: not one score of each class "
            f"for {count} samples"
        )
    scores = value.reshape(count, -1).astype(np.float64)
    if scores.shape[1] == 1:
        return _binary(scores, name)
    if spec.labels and scores.shape[1] != len(spec.labels):
        raise UsageError(
            f"the output {name!r} gives {scores.shape[1]} scores for each sample, the model has "
            f"{len(spec.labels)} labels",
            "choose a metric that compares numbers: [budget] metric = 'rmse'",
        )
    return scores


def answers(outputs: Tensors, spec: ModelSpec, count: int) -> Array:
    """The class of the highest score, int64 [n]; -1 where a score is not a number."""
    scores = class_scores(outputs, spec, count)
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))


def right_classes(targets: Any, metric: str) -> Array:
    """Targets as class positions, int64 [n]; `UsageError` when they are something else."""
    value = None if targets is None or isinstance(targets, list) else np.asarray(targets)
    if value is None or value.ndim != 1 or not np.array_equal(value, np.floor(value)):
        raise UsageError(
            f"{metric} compares classes, but the data says no class for each sample",
            "choose a metric that fits the data: [budget] metric = 'rmse', 'psnr' or 'map'",
        )
    return value.astype(np.int64)


def class_name(spec: ModelSpec, position: int) -> str:
    """A class's label, or its position when the model has no labels."""
    return spec.labels[position] if 0 <= position < len(spec.labels) else str(position)


def _binary(scores: Array, name: str) -> Array:
    known = scores[~np.isnan(scores)]
    if known.size and (known.min() < -0.01 or known.max() > 1.01):
        raise UsageError(
            f"the output {name!r} is one score from {known.min():.3g} to {known.max():.3g}: it is a "
            "class only as a probability, 0 to 1",
            "end the model with a sigmoid, or choose [budget] metric = 'rmse'; of several outputs the first is judged",
        )
    return np.concatenate([1 - scores, scores], axis=1)  # exactly a half is the first class
