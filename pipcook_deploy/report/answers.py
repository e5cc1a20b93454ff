"""What a classifier answered: positions and probabilities, from its first output."""

from typing import Any

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec


def probabilities(spec: ModelSpec, outputs: Tensors) -> Any:
    """The first output as float64 [n, classes], each row a distribution; None if it is not one answer a sample.

    Logits go through softmax, or the logistic function where there is only one (which becomes two classes).
    What is no number counts as never answered.
    """
    import numpy as np

    if not spec.outputs or spec.outputs[0].name not in outputs:
        return None
    found = np.asarray(outputs[spec.outputs[0].name])
    if found.dtype.kind != "f" or found.ndim not in (1, 2) or found.size == 0:
        return None
    scores = found.astype(np.float64).reshape(len(found), -1)
    if scores.shape[1] == 1:
        known = np.where(np.isnan(scores), 0.0, scores)
        share = known if _within(known) else 1 / (1 + np.exp(-np.clip(known, -500, 500)))
        return np.concatenate([1 - share, share], axis=1)
    known = np.where(np.isnan(scores), -np.inf, scores)
    finite = known[np.isfinite(known)]
    if (
        _within(finite)
        and np.abs(np.where(np.isfinite(known), known, 0).sum(axis=1) - 1).max() < 0.05
    ):
        return np.where(np.isfinite(known), known, 0.0)
    return _softmax(known)


def label(spec: ModelSpec, position: int) -> str:
    """The name of a class; its position where it has none."""
    return spec.labels[position] if 0 <= position < len(spec.labels) else str(position)


def class_targets(targets: Any) -> Any:
    """Class positions as int64 [n]; None where the targets are something else."""
    import numpy as np

    if targets is None or isinstance(targets, list):
        return None
    found = np.asarray(targets)
    return found.astype(np.int64) if found.dtype.kind in "iub" and found.ndim == 1 else None


def _within(values: Any) -> bool:
    """Whether all can be probabilities; quantized ones overshoot a little."""
    return bool(values.size == 0 or (values.min() >= -0.01 and values.max() <= 1.01))


def _softmax(values: Any) -> Any:
    import numpy as np

    finite = np.where(np.isfinite(values), values, np.where(values > 0, 1e300, -1e300))
    shifted = np.exp(np.clip(finite - finite.max(axis=1, keepdims=True), -700, 0))
    return shifted / shifted.sum(axis=1, keepdims=True)
