"""The interface of a metric: how good answers are, how much worse others are, and how sure that is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from pipcook_deploy.errors import BudgetError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

MOST_SAMPLES = 1 << 40  # no data set has so many: where the search for a number ends


@dataclass(frozen=True)
class Score:
    """A metric's value with its 95 % confidence interval, and the value of each class where there are any."""

    value: float
    low: float
    high: float
    samples: int
    per_class: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """How much worse answers are than others on the same samples, in the metric's unit; positive is worse.

    `low` and `high` are the paired 95 % confidence interval; `changed` samples are answered differently.
    """

    value: float
    low: float
    high: float
    samples: int
    changed: int


class Known(NamedTuple):
    """The source's answers to labelled samples: what the need of samples is estimated from."""

    outputs: Tensors
    targets: Any
    spec: ModelSpec


class Metric(ABC):
    """Compares a model's outputs (by the spec's names) with what is right (`Split.targets()`).

    `unit` is read after a number ("0.5 points"), which is the metric times `scale`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str] = "points"
    scale: ClassVar[float] = 100.0
    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0

    @abstractmethod
    def score(self, outputs: Tensors, targets: Any, spec: ModelSpec) -> Score:
        """How good `outputs` are. `UsageError` when the model's outputs or targets are not of this kind."""

    @abstractmethod
    def drop(self, before: Tensors, after: Tensors, targets: Any, spec: ModelSpec) -> Drop:
        """How much worse `after` is than `before`."""

    @abstractmethod
    def half_widths(
        self, max_drop: float, changed_share: float, known: Known | None
    ) -> Callable[[int], float]:
        """What half the interval of a drop is expected to be, by the number of samples.

        Metrics that are not shares take it from `known`, and raise `ValueError` without.
        """

    def samples_needed(
        self, max_drop: float, changed_share: float = 0.02, known: Known | None = None
    ) -> int:
        """How many samples make half the interval of a drop no wider than `max_drop`.

        `changed_share` of the answers are supposed to change; metrics that compare numbers suppose noise
        instead that just uses up the budget. Raises `BudgetError` when `max_drop` is 0.
        """
        if max_drop <= 0:
            raise BudgetError(
                "a budget of 0 cannot be measured on any number of samples",
                "set [budget] max_drop above 0",
            )
        half_width = self.half_widths(max_drop, changed_share, known)
        low, high = 0, 1
        while half_width(high) > max_drop and high < MOST_SAMPLES:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if half_width(middle) <= max_drop else (middle, high)
        return high

    def shown(self, value: float) -> str:
        """A difference of this metric in words: 0.005 of accuracy is "0.5 points"."""
        return f"{value * self.scale:.3g} {self.unit}"

    def loss(self, before: float, after: float) -> float:
        """How much worse the value `after` is than `before`."""
        return before - after if self.higher_is_better else after - before
