"""The golden samples: an engine is warmed with them, and has to answer them as was recorded."""

from time import perf_counter

import numpy as np

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.compare import compare_outputs
from pipcook_deploy.errors import ServerError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.runtimes.batches import BATCH, batched
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.errors import InferenceError
from pipcook_deploy.server.served import Candidate, Golden
from pipcook_deploy.tensors import load_tensors

SAMPLES = 16
LEAST = 2
SECONDS = 0.05  # a start to the first answer within a second leaves no more


def check_golden(engine: Engine, candidate: Candidate, name: str) -> None:
    """Answer the first golden samples and compare; a wrong answer costs the model its place.

    If some fail, all are answered: a tolerance may say which share of all winners has to agree. Raises `ServerError`
    saying what differs, by how much, and what to do; `BundleError` if the samples cannot be read.
    """
    golden, artifact = candidate.golden, candidate.artifact
    if golden is None:
        return
    wrong = _wrong(engine, artifact, golden, SAMPLES, SECONDS)
    if wrong:
        wrong = _wrong(engine, artifact, golden, None, float("inf"))
    if wrong:
        raise ServerError(
            f"{name}: {engine.name} answers the golden samples of the {artifact.format} artifact "
            f"otherwise than was recorded: {wrong}",
            "this engine on this machine does not run what was verified: see what pipcook-deploy "
            "verify says of the bundle, serve it by another --engine, or make the bundle again",
        )


def _wrong(
    engine: Engine, artifact: Artifact, golden: Golden, count: int | None, seconds: float
) -> str:
    """What differs; nothing if all is well."""
    inputs = load_tensors(golden.inputs, count)
    try:
        answers = _answers(engine, artifact, inputs, seconds)
    except InferenceError as error:
        return error.reason
    expected = load_tensors(golden.outputs, max(map(len, answers.values())))
    rows = compare_outputs(expected, answers, golden.tolerance)
    return "; ".join(
        f"output {row.name!r} of sample {row.worst_sample} {row.reason}"
        for row in rows
        if not row.passed
    )


def _answers(engine: Engine, artifact: Artifact, inputs: Tensors, seconds: float) -> Tensors:
    """Answers to as many samples as there is time for, and to `LEAST` in any case."""
    count, (size, exact) = len(next(iter(inputs.values()))), group(artifact)
    parts: list[Tensors] = []
    start, end = 0, perf_counter() + seconds
    while start < count and (start < LEAST or perf_counter() < end):
        rows = {key: value[start : start + size] for key, value in inputs.items()}
        parts.append(batched(engine.run, rows, size, exact))
        start += size
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def group(artifact: Artifact) -> tuple[int, bool]:
    """How many samples are answered at once, and whether it has to be exactly that many.

    One, as most requests bring it; but what the file prescribes, and where an output has no batch axis as many as
    verification takes.
    """
    fixed = [b.shape[0] for b in artifact.inputs if b.shape[:1] not in ((), (None,))]
    if fixed and fixed[0] is not None:
        return fixed[0], True
    return (1 if all(b.shape[:1] == (None,) for b in artifact.outputs) else BATCH), False
