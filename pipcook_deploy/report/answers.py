"""What a classifier answered, and how sure it was."""

from dataclasses import dataclass
from typing import Any

from pipcook_deploy.errors import UsageError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

OTHER_TASKS = ("object-detection", "image-to-image")


@dataclass(frozen=True)
class Answers:
    """`positions` are classes, int64 [n], -1 where a score is not a number; `shares` are probabilities [n, classes]."""

    positions: Any
    shares: Any


def read_answers(spec: ModelSpec, outputs: Tensors) -> Answers | None:
    """The answers in the first output, as the metrics read them; None if it does not tell classes.

    Scores that are no probabilities go through softmax.
    """
    import numpy as np

    from pipcook_deploy.metrics.classes import answers, class_scores

    if spec.task in OTHER_TASKS or not spec.outputs or spec.outputs[0].name not in outputs:
        return None
    found = np.asarray(outputs[spec.outputs[0].name])
    if np.squeeze(found).ndim > 2 or len(found) == 0:
        return None
    try:
        scores = class_scores(outputs, spec, len(found))
        return Answers(answers(outputs, spec, len(found)), _shares(scores))
    except UsageError:
        return None


def label(spec: ModelSpec, position: int) -> str:
    """The name of a class; its position where it has none."""
    from pipcook_deploy.metrics.classes import class_name

    return "not a number" if position < 0 else class_name(spec, position)


def class_targets(targets: Any) -> Any:
    """Class positions as int64 [n]; None where the targets are something else."""
    import numpy as np

    if targets is None or isinstance(targets, list):
        return None
    found = np.asarray(targets)
    return found.astype(np.int64) if found.dtype.kind in "iub" and found.ndim == 1 else None


def _shares(scores: Any) -> Any:
    """Each row a distribution; quantized ones, which overshoot a little, count as such already."""
    import numpy as np

    known = np.nan_to_num(scores, nan=0.0, posinf=1e300, neginf=-1e300)
    if known.min() >= -0.01 and known.max() <= 1.01 and np.abs(known.sum(axis=1) - 1).max() < 0.05:
        return known.clip(0, 1)
    shifted = np.exp(np.clip(known - known.max(axis=1, keepdims=True), -700, 0))
    return shifted / shifted.sum(axis=1, keepdims=True)
