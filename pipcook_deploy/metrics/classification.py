"""Accuracy, top-5 and macro-F1."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.metrics import bootstrap
from pipcook_deploy.metrics.classes import answers, class_name, class_scores, right_classes
from pipcook_deploy.metrics.metric import Drop, Known, Metric, Score
from pipcook_deploy.metrics.proportions import paired_difference, paired_half_width, wilson
from pipcook_deploy.metrics.simulated import exchanged_half_widths
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

Array = NDArray[Any]


class Share(Metric):
    """A share of samples that are answered right: Wilson's interval, and Bonett and Price's for a drop."""

    @abstractmethod
    def hits(self, outputs: Tensors, right: Array, spec: ModelSpec) -> Array:
        """bool [n]: which samples are answered right."""

    def score(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> Score:
        """The share of right answers; of each class, the share of its samples (recall)."""
        right = right_classes(targets, self.name)
        hits = self.hits(outputs, right, spec)
        low, high = wilson(int(hits.sum()), len(hits))
        by_class = {
            class_name(spec, int(label)): float(hits[right == label].mean())
            for label in np.unique(right)
        }
        return Score(float(hits.mean()), low, high, len(hits), by_class)

    def drop(self, before: Tensors, after: Tensors, targets: Any, spec: ModelSpec) -> Drop:
        """The difference of the shares, from the samples that only one of the two answers right."""
        right = right_classes(targets, self.name)
        old, new = (self.hits(outputs, right, spec) for outputs in (before, after))
        lost, won = int((old & ~new).sum()), int((new & ~old).sum())
        low, high = paired_difference(lost, won, len(right))
        changed = answers(before, spec, len(right)) != answers(after, spec, len(right))
        return Drop((lost - won) / len(right), low, high, len(right), int(changed.sum()))

    def half_widths(
        self, max_drop: float, changed_share: float, known: Known | None
    ) -> Callable[[int], float]:
        """Of the paired interval, in closed form."""
        return partial(paired_half_width, changed_share)


class Accuracy(Share):
    """The share of samples whose highest score is at the right class."""

    name: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "accuracy"

    def hits(self, outputs: Tensors, right: Array, spec: ModelSpec) -> Array:
        """Where the answer is the right class."""
        hits: Array = answers(outputs, spec, len(right)) == right
        return hits


class Top5(Share):
    """The share of samples whose right class is among the five highest scores (equal scores: the lower
    class first). With five classes or fewer it is always 1."""

    name: ClassVar[str] = "top5"
    title: ClassVar[str] = "top-5 accuracy"

    def hits(self, outputs: Tensors, right: Array, spec: ModelSpec) -> Array:
        """Where fewer than five classes come before the right one."""
        scores = class_scores(outputs, spec, len(right))
        # A class that the model cannot answer is never among its five.
        known = (right >= 0) & (right < scores.shape[1])
        place = np.where(known, right, 0)[:, None]
        own = np.take_along_axis(scores, place, axis=1)
        earlier = np.arange(scores.shape[1])[None, :] < place
        ahead = (scores > own) | ((scores == own) & earlier)
        hits: Array = known & (ahead.sum(axis=1) < 5) & ~np.isnan(scores).any(axis=1)
        return hits


class MacroF1(Metric):
    """The mean of the classes' F1, over the classes that the samples have (as scikit-learn's f1_score
    with `labels` of those classes). Intervals: bootstrap over samples, paired for a drop."""

    name: ClassVar[str] = "macro_f1"
    title: ClassVar[str] = "macro-F1"

    def score(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> Score:
        """Of all classes together, and the F1 of each."""
        right = right_classes(targets, self.name)
        count = len(right)
        told, classes = _coded(right, answers(outputs, spec, count))
        everything = np.arange(count)[None, :]
        each, present = _f1(told, everything, len(classes))
        low, high = bootstrap.interval(
            count, lambda rows: _mean(*_f1(told, rows, len(classes))), count + len(classes)
        )
        by_class = {
            class_name(spec, int(label)): float(value)
            for label, value in zip(classes, each[0], strict=True)
        }
        return Score(float(_mean(each, present)[0]), low, high, count, by_class)

    def drop(self, before: Tensors, after: Tensors, targets: Any, spec: ModelSpec) -> Drop:
        """The difference of the two on the same resamples."""
        right = right_classes(targets, self.name)
        count = len(right)
        first, second = (answers(outputs, spec, count) for outputs in (before, after))
        old, classes = _coded(right, first)
        new, _ = _coded(right, second)

        def lost(rows: Array) -> Array:
            return _mean(*_f1(old, rows, len(classes))) - _mean(*_f1(new, rows, len(classes)))

        low, high = bootstrap.interval(count, lost, count + len(classes))
        value = float(lost(np.arange(count)[None, :])[0])
        return Drop(value, low, high, count, int((first != second).sum()))

    def half_widths(
        self, max_drop: float, changed_share: float, known: Known | None
    ) -> Callable[[int], float]:
        """With some answers exchanged; as accuracy's while nothing is known of the model."""
        if known is None:
            return partial(paired_half_width, changed_share)
        return exchanged_half_widths(self, changed_share, known)


def _coded(right: Array, told: Array) -> tuple[tuple[Array, Array], Array]:
    """Right and told classes as positions among the classes that occur; what else is told is one more."""
    classes = np.unique(right)
    place = np.searchsorted(classes, right)
    guess = np.clip(np.searchsorted(classes, told), 0, len(classes) - 1)
    return (place, np.where(classes[guess] == told, guess, len(classes))), classes


def _f1(coded: tuple[Array, Array], rows: Array, classes: int) -> tuple[Array, Array]:
    """F1 of each class in each resample, and which classes are in it: both [group, classes]."""
    right, told = coded[0][rows], coded[1][rows]
    support, claimed = _counts(right, classes), _counts(told, classes)
    hit = _counts(np.where(right == told, right, classes), classes)
    return 2 * hit / np.maximum(support + claimed, 1), support > 0


def _counts(values: Array, classes: int) -> Array:
    """How often each class is in each row; values of `classes` are of none."""
    offsets = np.arange(len(values))[:, None] * (classes + 1)
    counts = np.bincount((values + offsets).ravel(), minlength=len(values) * (classes + 1))
    return counts.reshape(len(values), classes + 1)[:, :classes]


def _mean(each: Array, present: Array) -> Array:
    means: Array = (each * present).sum(axis=1) / present.sum(axis=1)
    return means
