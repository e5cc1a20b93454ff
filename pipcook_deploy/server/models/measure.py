"""Times a model on this machine: alone, as several streams, and in batches."""

import threading
from collections.abc import Sequence
from statistics import quantiles
from time import perf_counter
from typing import Literal, get_args

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.errors import InferenceError
from pipcook_deploy.server.models.samples import samples
from pipcook_deploy.server.served import Candidate

INLINE_SECONDS = 0.0003  # handing a request to a thread and back costs about a third of it
BATCH = 8
MOST = 16
SIZES = (2, 3, 5, BATCH, MOST)  # kernels differ by them; of tiny models every size is tried
PAYS = 0.7  # of the time alone, a sample, is what a batch must get down to
# What a batch must spare a sample, in seconds: less than that, and bringing it together costs more.
HANDOVER = 0.0002  # in another thread
GATHERING = 0.000005  # in the event loop
BatchGain = Literal["pays", "little", "changes bits", "not tried", "impossible"]
BATCH_GAINS: tuple[str, ...] = get_args(BatchGain)
LASTING = 0.002  # seconds of a sample beside which making ready for another shape is little
SLOWEST = 0.1  # seconds of one sample: batches of slower models are not tried, that takes too long


def alone(engine: Engine, inputs: Tensors, budget: float) -> float:
    """Seconds of one run when nothing else runs: the fastest quarter of what fits into `budget` seconds."""
    engine.run(inputs)
    return _typical(_timed(engine, inputs, perf_counter() + budget))


def together(engine: Engine, inputs: Tensors, streams: int, budget: float) -> float:
    """Runs a second of `streams` threads that all compute at once."""
    times: list[list[float]] = [[] for _ in range(streams)]
    end = perf_counter() + budget

    def work(number: int) -> None:
        times[number] = _timed(engine, inputs, end)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(1 / _typical(taken) for taken in times)


def batch_gain(engine: Engine, candidate: Candidate, seconds: float) -> BatchGain:
    """Whether waiting requests are best computed together; `seconds` is the time of one sample alone.

    By itself the server does so only if it pays and a sample in a batch gets the very bits that it gets alone: the
    same image has to get the same answer.
    """
    tensors = (*candidate.artifact.inputs, *candidate.artifact.outputs)
    if any(tensor.shape[:1] != (None,) for tensor in tensors):
        return "impossible"
    if seconds > SLOWEST:
        return "not tried"
    try:
        gain = _gain(engine, samples(candidate, BATCH), seconds)
        sizes = range(2, MOST + 1) if seconds < INLINE_SECONDS else SIZES
        if gain == "pays" and not same_bits(engine, samples(candidate, MOST), sizes):
            return "changes bits"
        return gain
    except InferenceError:
        return "impossible"


def same_bits(engine: Engine, many: Tensors, sizes: Sequence[int]) -> bool:
    """Whether batches of several sizes are answered exactly like their samples one by one."""
    parts = [
        engine.run({key: value[row : row + 1] for key, value in many.items()})
        for row in range(max(sizes))
    ]
    single = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return all(
        equal(engine.run(_first(many, size)), {key: value[:size] for key, value in single.items()})
        for size in sizes
    )


def equal(some: Tensors, others: Tensors) -> bool:
    """Whether two answers are the same, bit by bit."""
    return all(
        value.shape == others[name].shape and value.tobytes() == others[name].tobytes()
        if value.dtype.kind not in "OUS"
        else np.array_equal(value, others[name])
        for name, value in some.items()
    )


def _gain(engine: Engine, many: Tensors, seconds: float) -> BatchGain:
    start = perf_counter()
    outputs = engine.run(many)
    if any(value.ndim == 0 or len(value) != BATCH for value in outputs.values()):
        return "impossible"
    # The first batch takes longer than later ones, but not that much longer.
    if (perf_counter() - start) / BATCH > (1.2 if seconds > LASTING else 2) * seconds:
        return "little"
    each = alone(engine, many, min(0.05, max(0.005, 3 * BATCH * seconds))) / BATCH
    least = GATHERING if seconds < INLINE_SECONDS else HANDOVER
    return "pays" if each < seconds * PAYS and seconds - each > least else "little"


def _timed(engine: Engine, inputs: Tensors, end: float) -> list[float]:
    times: list[float] = []
    now = perf_counter()
    while not times or now < end:
        start = now
        engine.run(inputs)
        now = perf_counter()
        times.append(now - start)
    return times


def _typical(times: list[float]) -> float:
    """The lower quartile: other programs make single runs slower, never faster."""
    return quantiles(times, n=4)[0] if len(times) > 3 else min(times)


def _first(many: Tensors, count: int) -> Tensors:
    return {key: value[:count] for key, value in many.items()}
