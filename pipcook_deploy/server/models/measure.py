"""Measures a model on this machine: whether to run it in the event loop, and whether batches pay."""

from time import perf_counter
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.errors import InferenceError
from pipcook_deploy.server.models.lane import Plan
from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.server.tensors.datatypes import array_type
from pipcook_deploy.spec import TensorSpec
from pipcook_deploy.tensors import load_tensors

INLINE_SECONDS = 0.0003  # handing a request to a thread and back costs about a third of it
BATCH = 8
PAYS = 0.7  # of the time alone, a sample, is what a batch must get down to
HANDOVER = 0.0002  # what a batch must spare a sample: less than that, and queueing costs more
BUDGET = 0.3  # seconds for one measurement


def measured_plan(engine: Engine, served: ServedModel, settings: Settings) -> Plan:
    """How to run it; a model that made-up samples cannot be run on gets the cautious plan."""
    alone = _samples(served, 1)
    try:
        seconds = fastest(engine, alone)
    except InferenceError:
        return Plan(streams=settings.streams or 1)
    elements = sum(value.size for value in alone.values())
    inline = int(elements * INLINE_SECONDS / max(seconds, 1e-7)) if seconds < INLINE_SECONDS else 0
    batch = _batch(engine, served, settings, alone, seconds)
    return Plan(seconds, inline if batch == 1 else 0, settings.streams or 1, batch)


def fastest(engine: Engine, inputs: Tensors, times: int = 5) -> float:
    """Seconds of one run: the least of several, after one that warms up."""
    engine.run(inputs)
    best, end = float("inf"), perf_counter() + BUDGET
    for _ in range(times):
        start = perf_counter()
        engine.run(inputs)
        now = perf_counter()
        best = min(best, now - start)
        if now > end:
            break
    return best


def _batch(
    engine: Engine, served: ServedModel, settings: Settings, alone: Tensors, seconds: float
) -> int:
    """How many samples to compute together: 1 where that gains nothing, or answers change."""
    tensors = (*served.spec.inputs, *served.spec.outputs)
    if settings.batching == "off" or any(t.shape[:1] != (None,) for t in tensors):
        return 1
    many = {name: np.concatenate([value] * BATCH) for name, value in alone.items()}
    try:
        outputs = engine.run(many)
        each = fastest(engine, many, 3) / BATCH
    except InferenceError:
        return 1
    if any(value.ndim == 0 or len(value) != BATCH for value in outputs.values()):
        return 1
    pays = each < seconds * PAYS and seconds - each > HANDOVER
    return settings.max_batch if pays or settings.batching == "on" else 1


def _samples(served: ServedModel, count: int) -> Tensors:
    """`count` golden samples, or zeros of the least size."""
    if served.golden is None:
        return {tensor.name: _made_up(tensor, count) for tensor in served.spec.inputs}
    golden = load_tensors(served.golden.inputs)
    sizes = {tensor.name: tensor.shape[0] or count for tensor in served.spec.inputs}
    return {name: value[: sizes[name]] for name, value in golden.items()}


def _made_up(tensor: TensorSpec, count: int) -> Any:
    shape = [size or (count if axis == 0 else 1) for axis, size in enumerate(tensor.shape)]
    if tensor.dtype == "string":
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, dtype=array_type(tensor.dtype))
