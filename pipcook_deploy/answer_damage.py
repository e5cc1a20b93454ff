"""How far answers moved: one number, for ranking what does the most harm."""

from typing import Any

from pipcook_deploy.runtime import Tensors

_LEAST = 1e-6  # probabilities below count as this: a format with integers gives zeros


def answer_damage(expected: Tensors, actual: Tensors) -> float:
    """Mean over the outputs of how far `actual` is from `expected`; 0 for the same answers.

    For class probabilities (rows of the last axis that sum to one) the mean Kullback-Leibler divergence, in
    nats; for other numbers the squared difference relative to the variance of what was expected. Infinite
    where there are NaNs. Texts count as 1 a text that changed.
    """
    parts = [_damage(value, actual[name]) for name, value in expected.items()]
    return float(sum(parts) / len(parts)) if parts else 0.0


def _damage(expected: Any, actual: Any) -> float:
    import numpy as np

    if expected.dtype.kind in "OUS":
        return float((expected != actual).mean())
    before, after = expected.astype(np.float64), actual.astype(np.float64)
    if not np.isfinite(after).all():
        return float("inf")
    if is_distribution(before):
        before, after = np.maximum(before, _LEAST), np.maximum(after, _LEAST)
        before /= before.sum(-1, keepdims=True)
        after /= after.sum(-1, keepdims=True)
        return float((before * np.log(before / after)).sum(-1).mean())
    spread = float(((before - before.mean()) ** 2).mean()) or float((before**2).mean()) or 1.0
    return float(((after - before) ** 2).mean()) / spread


def is_distribution(value: Any) -> bool:
    """Whether the rows of the last axis are probabilities of two or more classes."""
    import numpy as np

    if value.ndim < 2 or value.shape[-1] < 2 or value.size == 0:
        return False
    return bool((value >= 0).all() and np.allclose(value.sum(-1), 1, atol=1e-3))
