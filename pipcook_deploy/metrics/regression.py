"""Errors of numbers: MAE, RMSE and PSNR. Intervals by bootstrap over samples, paired for a drop."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics import bootstrap
from pipcook_deploy.metrics.metric import Drop, Known, Metric, Score
from pipcook_deploy.metrics.simulated import noisy_half_widths
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

Array = NDArray[Any]
CHANGED = 0.01  # an answer that moves by this share of the targets' standard deviation has changed
MOST_DB = 100.0  # PSNR of a picture without any error, which has none
ROWS = 256  # samples compared at once


class ErrorMetric(Metric):
    """A function of the mean, over the samples, of one number for each sample."""

    unit: ClassVar[str] = "(in the unit of the targets)"
    scale: ClassVar[float] = 1.0
    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0

    @abstractmethod
    def of_samples(self, told: Array, right: Array, peak: float) -> Array:
        """[n] from told and right [n, elements], float64."""

    def from_mean(self, means: Array) -> Array:
        """The metric, from the mean over the samples."""
        return means

    def score(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> Score:
        """Over all elements of the first output."""
        each = self._each(outputs, targets, spec)
        low, high = bootstrap.interval(
            len(each), lambda rows: self.from_mean(each[rows].mean(axis=1))
        )
        return Score(float(self.from_mean(each.mean())), low, high, len(each))

    def drop(self, before: Tensors, after: Tensors, targets: Any, spec: ModelSpec) -> Drop:
        """The difference of the two on the same resamples."""
        old, new = (self._each(outputs, targets, spec) for outputs in (before, after))
        sign = 1.0 if self.higher_is_better else -1.0

        def lost(rows: Array) -> Array:
            first, second = (self.from_mean(each[rows].mean(axis=1)) for each in (old, new))
            difference: Array = sign * (first - second)
            return difference

        low, high = bootstrap.interval(len(old), lost)
        value = float(lost(np.arange(len(old))[None, :])[0])
        changed = _changed(_numbers(before, spec), _numbers(after, spec), targets)
        return Drop(value, low, high, len(old), changed)

    def half_widths(
        self, max_drop: float, changed_share: float, known: Known | None
    ) -> Callable[[int], float]:
        """From noise on the known answers."""
        if known is None:
            raise ValueError(f"{self.name}: what is needed depends on the model's own answers")
        return noisy_half_widths(self, max_drop, known, partial(self._value, known))

    def _value(self, known: Known, outputs: Tensors) -> float:
        each = self._each(outputs, known.targets, known.spec)
        return float(self.from_mean(each.mean()))

    def _each(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> Array:
        told, right = _numbers(outputs, spec), _right(targets, self.name)
        if len(told) != len(right) or told[:1].size != right[:1].size or not len(right):
            raise UsageError(
                f"{self.name}: the model answers {list(told.shape)}, the data says {list(right.shape)}",
                "give one number for each number of the answer, or choose another [budget] metric",
            )
        peak = _peak(right)
        # Piece by piece: pictures in float64 at once would not fit in memory.
        parts = [
            self.of_samples(_flat(told[at : at + ROWS]), _flat(right[at : at + ROWS]), peak)
            for at in range(0, len(right), ROWS)
        ]
        return np.concatenate(parts)


class Mae(ErrorMetric):
    """Mean absolute error."""

    name: ClassVar[str] = "mae"
    title: ClassVar[str] = "mean absolute error"

    def of_samples(self, told: Array, right: Array, peak: float) -> Array:
        """The mean absolute error of each sample."""
        errors: Array = np.abs(told - right).mean(axis=1)
        return errors


class Rmse(ErrorMetric):
    """Root of the mean squared error over all samples."""

    name: ClassVar[str] = "rmse"
    title: ClassVar[str] = "root-mean-square error"

    def of_samples(self, told: Array, right: Array, peak: float) -> Array:
        """The mean squared error of each sample."""
        errors: Array = ((told - right) ** 2).mean(axis=1)
        return errors

    def from_mean(self, means: Array) -> Array:
        """The root."""
        return np.sqrt(means)


class Psnr(ErrorMetric):
    """Mean over the samples of 10 log10(peak^2 / mean squared error), 100 dB at most.

    The peak is the width of the smallest usual range that holds the targets: [0, 1], [-1, 1] (a width of 2)
    or [0, 255].
    """

    name: ClassVar[str] = "psnr"
    title: ClassVar[str] = "PSNR"
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = MOST_DB

    def of_samples(self, told: Array, right: Array, peak: float) -> Array:
        """Decibels of each sample."""
        error = ((told - right) ** 2).mean(axis=1)
        least = peak**2 / 10 ** (MOST_DB / 10)
        decibels: Array = 10 * np.log10(peak**2 / np.maximum(error, least))
        return decibels


def _numbers(outputs: Tensors, spec: ModelSpec) -> Any:
    name = spec.outputs[0].name if spec.outputs else next(iter(outputs), "")
    if name not in outputs:
        raise UsageError(f"the answers have no output {name!r} (found: {', '.join(outputs)})")
    value = outputs[name]
    if value.dtype.kind not in "biuf":
        raise UsageError(f"the output {name!r} is {value.dtype}: not numbers")
    return value


def _right(targets: Any, metric: str) -> Any:
    if targets is None or isinstance(targets, list):
        raise UsageError(f"{metric} compares numbers, but the data gives none for its samples")
    return targets


def _flat(rows: Any) -> Array:
    return np.asarray(rows, np.float64).reshape(len(rows), -1)


def _peak(right: Any) -> float:
    low = min(float(np.min(right[at : at + ROWS])) for at in range(0, len(right), ROWS))
    high = max(float(np.max(right[at : at + ROWS])) for at in range(0, len(right), ROWS))
    if low < 0:
        return 2.0 if low >= -1 and high <= 1 else high - low
    return 1.0 if high <= 1 else 255.0 if high <= 255 else high


def _changed(before: Any, after: Any, targets: Any) -> int:
    spread = float(np.std(np.asarray(targets))) or 1.0
    return sum(
        int((np.abs(_flat(before[at : at + ROWS]) - _flat(after[at : at + ROWS])) > CHANGED * spread)
            .any(axis=1).sum())
        for at in range(0, len(before), ROWS)
    )  # fmt: skip
