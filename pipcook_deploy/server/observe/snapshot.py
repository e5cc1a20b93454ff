"""The counters of one process as plain data (JSON has all of it), and the sum of several processes'."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict

from pipcook_deploy.server.observe.lines import LINES
from pipcook_deploy.server.observe.metrics import Histogram

if TYPE_CHECKING:
    from pipcook_deploy.server.app import Context
    from pipcook_deploy.server.models.loaded import LoadedModel


class Counts(TypedDict):
    """A histogram: observations by bucket, not cumulative, and the sum of what was observed."""

    counts: list[int]
    total: float


class ModelCounts(TypedDict):
    """Of one version of one model. `requests` is by status, `stages` by name, in seconds."""

    name: str
    version: str
    task: str
    engine: str
    platform: str
    chosen: str
    threads: int
    streams: int
    max_batch: int
    workers: int  # processes that have it loaded
    depth: int
    pending: int
    refused: int
    expired: int
    requests: dict[str, Counts]
    stages: dict[str, Counts]
    batches: Counts
    executions: int  # of the engine
    samples: int  # that they computed
    last: float  # when a request was answered last; seconds since 1970


class Snapshot(TypedDict):
    """Of one process, or of several. `requests` are those that belong to no model."""

    workers: int
    draining: int
    in_flight: int
    lost_lines: int
    requests: dict[str, Counts]
    models: list[ModelCounts]
    process: dict[str, float]


LEAST = ("process_start_time_seconds", "process_max_fds")  # what a sum makes no sense of


async def snapshot(context: "Context") -> Snapshot:
    """What this process has counted so far."""
    process = await context.compute(_process)
    return {
        "workers": 1,
        "draining": int(context.draining),
        "in_flight": context.in_flight(),
        "lost_lines": LINES.lost,
        "requests": _by_key(context.metrics.requests),
        "models": [_model(model) for model in context.registry.models()],
        "process": process,
    }


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum. What cannot be summed (the engine, why it was chosen) is the first process's."""
    whole: Snapshot = {
        "workers": 0,
        "draining": 0,
        "in_flight": 0,
        "lost_lines": 0,
        "requests": {},
        "models": [],
        "process": {},
    }
    models: dict[tuple[str, str], ModelCounts] = {}
    for one in snapshots:
        for key in ("workers", "draining", "in_flight", "lost_lines"):
            whole[key] += one[key]
        _add_all(whole["requests"], one["requests"])
        _add_process(whole["process"], one["process"])
        for model in one["models"]:
            place = (model["name"], model["version"])
            models[place] = _sum(models[place], model) if place in models else _copy(model)
    whole["models"] = list(models.values())
    return whole


def _model(model: "LoadedModel") -> ModelCounts:
    metrics, lane = model.metrics, model.lane
    return {
        "name": model.name,
        "version": model.version,
        "task": model.spec.task,
        "engine": model.engine.name,
        "platform": model.engine.platform,
        "chosen": model.chosen,
        "threads": model.engine.threads,
        "streams": lane.plan.streams,
        "max_batch": lane.plan.max_batch,
        "workers": 1,
        "depth": lane.depth,
        "pending": lane.pending,
        "refused": metrics.refused,
        "expired": metrics.expired,
        "requests": _by_key(metrics.requests),
        "stages": _by_key(metrics.stages),
        "batches": _counts(metrics.batches),
        "executions": metrics.inline_runs + sum(metrics.batches.counts),
        "samples": _inline_samples(model) + int(metrics.batches.total),
        "last": metrics.last,
    }


def _inline_samples(model: "LoadedModel") -> int:
    """Samples have the same size where only the batch axis is dynamic; elsewhere a run counts as one."""
    sizes = [
        math.prod(size or 0 for size in tensor.shape[1:]) if tensor.shape[:1] == (None,) else 0
        for tensor in model.spec.inputs
    ]
    metrics = model.metrics
    return metrics.inline_elements // sum(sizes) if sizes and all(sizes) else metrics.inline_runs


def _counts(histogram: Histogram) -> Counts:
    return {"counts": list(histogram.counts), "total": histogram.total}


def _by_key(histograms: Mapping[int, Histogram] | Mapping[str, Histogram]) -> dict[str, Counts]:
    # Other threads add stages: the list is made in one go, before anything else can run.
    return {str(key): _counts(histogram) for key, histogram in list(histograms.items())}


def _process() -> dict[str, float]:
    """Memory, CPU time and open files, by the names that Prometheus has for them; nothing without /proc."""
    from prometheus_client import ProcessCollector

    samples = [s for family in ProcessCollector(registry=None).collect() for s in family.samples]
    return {sample.name: float(sample.value) for sample in samples}


def _copy(model: ModelCounts) -> ModelCounts:
    copied = model.copy()
    copied["requests"], copied["stages"] = {}, {}
    _add_all(copied["requests"], model["requests"])
    _add_all(copied["stages"], model["stages"])
    return copied


def _sum(model: ModelCounts, other: ModelCounts) -> ModelCounts:
    for key in ("workers", "depth", "pending", "refused", "expired", "executions", "samples"):
        model[key] += other[key]
    model["last"] = max(model["last"], other["last"])
    _add_all(model["requests"], other["requests"])
    _add_all(model["stages"], other["stages"])
    model["batches"] = _added(model["batches"], other["batches"])
    return model


def _add_all(into: dict[str, Counts], more: dict[str, Counts]) -> None:
    for key, counts in more.items():
        into[key] = _added(into[key], counts) if key in into else _added(counts, None)


def _added(one: Counts, other: Counts | None) -> Counts:
    if other is None:
        return {"counts": list(one["counts"]), "total": one["total"]}
    pairs = zip(one["counts"], other["counts"], strict=True)
    return {"counts": [a + b for a, b in pairs], "total": one["total"] + other["total"]}


def _add_process(into: dict[str, float], more: dict[str, float]) -> None:
    for name, value in more.items():
        how: Callable[[float, float], float] = min if name in LEAST else float.__add__
        into[name] = how(into[name], value) if name in into else value
