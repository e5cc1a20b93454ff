"""Counts and latencies, cheap enough for every request; how they are shown is `observe.prometheus`'s business.

All counting happens in the event loop's thread, but for `stage`, which other threads call as well: a lost
increment would need two of them in the same bytecode.
"""

from bisect import bisect_left
from collections import defaultdict
from time import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipcook_deploy.server.models.loaded import LoadedModel

# Upper bounds in seconds: from a tiny model in the loop to a large one on a busy machine.
BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Observations by bucket; the last one holds what is above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelMetrics:
    """Of one version of one model. Stages: "prepare" (decode, preprocess), "queue", "compute"; seconds."""

    __slots__ = (
        "batches", "expired", "inline_elements", "inline_runs", "last", "refused", "requests", "stages",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests: defaultdict[int, Histogram] = defaultdict(Histogram)  # by status
        self.stages: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.batches = Histogram(BATCH_BOUNDS)  # samples that were computed together
        self.refused = 0  # full
        self.expired = 0  # the deadline passed, or the client left, before the turn came
        self.inline_runs = 0  # in the event loop
        self.inline_elements = 0  # of their inputs
        self.last = 0.0  # when a request was answered last; seconds since 1970

    def stage(self, name: str, seconds: float) -> None:
        """How long a request was in a stage."""
        self.stages[name].observe(seconds)

    def inline(self, elements: int, seconds: float) -> None:
        """One request was computed in the event loop."""
        self.stages["compute"].observe(seconds)
        self.inline_runs += 1
        self.inline_elements += elements


class ServerMetrics:
    """Of requests that belong to no model."""

    def __init__(self) -> None:
        self.requests: defaultdict[int, Histogram] = defaultdict(Histogram)

    def answered(self, model: "LoadedModel | None", status: int, seconds: float) -> None:
        """One answer, and the time from its head to its last byte handed over."""
        if model is None:
            self.requests[status].observe(seconds)
            return
        model.metrics.requests[status].observe(seconds)
        model.metrics.last = time()
