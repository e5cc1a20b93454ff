"""How wide the interval of a drop will be, tried out on the source's own answers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.metrics.metric import Known, Metric
from pipcook_deploy.runtime import Tensors

SEED = 21


def exchanged_half_widths(metric: Metric, share: float, known: Known) -> Callable[[int], float]:
    """With the answers of a share of the samples exchanged among each other."""
    count = _count(known.outputs)
    chosen = np.random.default_rng(SEED).permutation(count)[: max(2, round(share * count))]
    return _half_widths(metric, known, _exchanged(known.outputs, chosen))


def noisy_half_widths(
    metric: Metric, max_drop: float, known: Known, value: Callable[[Tensors], float]
) -> Callable[[int], float]:
    """With normal noise on the first output, as much as just uses up the budget.

    `value` gives the metric of outputs without an interval.
    """
    name = known.spec.outputs[0].name
    told = np.asarray(known.outputs[name], np.float64)
    noise = np.random.default_rng(SEED).standard_normal(told.shape)
    before = value(known.outputs)

    def noisy(size: float) -> Tensors:
        return {**known.outputs, name: told + size * noise}

    low, high = 0.0, float(told.std()) or 1.0
    for _ in range(30):
        if metric.loss(before, value(noisy(high))) > max_drop:
            break
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        too_much = metric.loss(before, value(noisy(middle))) > max_drop
        low, high = (low, middle) if too_much else (middle, high)
    return _half_widths(metric, known, noisy(high))


def _half_widths(metric: Metric, known: Known, after: Tensors) -> Callable[[int], float]:
    drop = metric.drop(known.outputs, after, known.targets, known.spec)
    spread = (drop.high - drop.low) / 2 * float(np.sqrt(_count(known.outputs)))
    return lambda samples: spread / float(np.sqrt(samples))


def _exchanged(outputs: Tensors, chosen: NDArray[Any]) -> Tensors:
    changed = {name: np.array(value) for name, value in outputs.items()}
    for name, value in outputs.items():
        changed[name][chosen] = np.asarray(value)[np.roll(chosen, 1)]
    return changed


def _count(outputs: Tensors) -> int:
    return len(next(iter(outputs.values())))
