"""mAP@0.5 and mAP@0.5:0.95, COCO's 101-point definition. Intervals by bootstrap over pictures."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics import bootstrap
from pipcook_deploy.metrics.average_precision import (
    THRESHOLDS,
    Matches,
    average_precisions,
    match,
)
from pipcook_deploy.metrics.classes import class_name
from pipcook_deploy.metrics.detections import Detections, read_detections
from pipcook_deploy.metrics.metric import Drop, Known, Metric, Score
from pipcook_deploy.metrics.proportions import paired_half_width
from pipcook_deploy.metrics.simulated import exchanged_half_widths
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

Array = NDArray[Any]
SHOWN = 0.5  # detections scored below this are not counted as an answer


class MeanAveragePrecision(Metric):
    """Mean over classes and thresholds 0.5, 0.55, ... 0.95 of the overlap."""

    name: ClassVar[str] = "map"
    title: ClassVar[str] = "mAP@0.5:0.95"
    thresholds: ClassVar[Array] = THRESHOLDS

    def score(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> Score:
        """Over the classes that the data has; of each class, the mean over the thresholds."""
        found = self._matches(outputs, targets, spec)
        count = len(targets)
        everything = np.arange(count)[None, :]
        low, high = bootstrap.interval(
            count, lambda rows: _mean(found, rows), _elements(found, count)
        )
        by_class = {
            class_name(spec, label): float(average_precisions(rows, everything).mean())
            for label, rows in found.items()
        }
        return Score(float(_mean(found, everything)[0]), low, high, count, by_class)

    def drop(self, before: Tensors, after: Tensors, targets: Any, spec: ModelSpec) -> Drop:
        """The difference of the two on the same resamples of pictures."""
        old, new = (self._matches(outputs, targets, spec) for outputs in (before, after))
        count = len(targets)

        def lost(rows: Array) -> Array:
            return _mean(old, rows) - _mean(new, rows)

        most = max(_elements(old, count), _elements(new, count))
        low, high = bootstrap.interval(count, lost, most)
        value = float(lost(np.arange(count)[None, :])[0])
        first, second = (_answers(read_detections(told, spec)) for told in (before, after))
        changed = sum(one != other for one, other in zip(first, second, strict=True))
        return Drop(value, low, high, count, changed)

    def half_widths(
        self, max_drop: float, changed_share: float, known: Known | None
    ) -> Callable[[int], float]:
        """With the answers to some pictures exchanged; as accuracy's while nothing is known."""
        if known is None:
            return lambda samples: paired_half_width(changed_share, samples)
        return exchanged_half_widths(self, changed_share, known)

    def _matches(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> dict[int, Matches]:
        if not isinstance(targets, list):
            raise UsageError(
                f"{self.name} compares boxes, but the data has none",
                "give COCO or Pascal VOC annotations as [data] evaluation",
            )
        detections = read_detections(outputs, spec)
        if len(detections) != len(targets):
            raise UsageError(f"{len(detections)} answers for {len(targets)} pictures")
        found = match(detections, targets, self.thresholds)
        if not found:
            raise UsageError(f"{self.name}: the data has no objects")
        return found


class MeanAveragePrecision50(MeanAveragePrecision):
    """Mean over classes at an overlap of 0.5."""

    name: ClassVar[str] = "map50"
    title: ClassVar[str] = "mAP@0.5"
    thresholds: ClassVar[Array] = THRESHOLDS[:1]


def _mean(found: dict[int, Matches], rows: Array) -> Array:
    """[group]: a class that a resample lacks is left out of its mean."""
    each = np.stack([average_precisions(one, rows).mean(axis=1) for one in found.values()], axis=1)
    present = ~np.isnan(each)
    total = np.where(present, each, 0.0).sum(axis=1)
    return np.where(present.any(axis=1), total / np.maximum(present.sum(axis=1), 1), np.nan)


def _elements(found: dict[int, Matches], count: int) -> int:
    return max([count, *(4 * len(one.sample) for one in found.values())])


def _answers(detections: Detections) -> list[list[int]]:
    """The classes seen in each picture."""
    shown = detections.scores >= SHOWN
    return [
        sorted(classes[seen].tolist())
        for classes, seen in zip(detections.classes, shown, strict=True)
    ]
