"""Times artifacts in the runtimes that run them in production. Called through `Workers`, with JSON."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.bench.windows import Source, Timing, Window, repeated, time_in_turns
from pipcook_deploy.errors import MissingDependencyError, UnsupportedRuntimeError
from pipcook_deploy.runtime import Runtime, Tensors

WARM_UP = 0.3  # seconds


@runtime_checkable
class TimesItself(Protocol):
    """A runtime in a process of its own, which keeps the time there: on one thread."""

    def time_calls(
        self, artifact: Artifact, inputs: Tensors, *, seconds: float, warm_up: float
    ) -> list[float]:
        """Milliseconds of each call."""


def timed_runtimes(model_format: str) -> tuple[str, ...]:
    """Labels of the installed runtimes that can time a format: "onnxruntime", "openvino"."""
    return tuple(
        runtime.label
        for runtime in _variants()
        if model_format in runtime.formats and _ready(runtime)
    )


def measure(
    artifact: dict[str, Any],
    runtime: str,
    inputs: str,
    threads: int,
    batch: int,
    seconds: float,
    warm_up: float = WARM_UP,
    kind: str = "compressed",
) -> Any:
    """Time one artifact in one runtime; returns a `BenchEntry` as data.

    `inputs` is a folder of tensors, whose first `batch` samples are answered at once again and again.
    Raises `UnsupportedRuntimeError` when the runtime has no model open between calls, and what it raises
    when it cannot run the artifact.
    """
    contestant = {"artifact": artifact, "runtime": runtime, "kind": kind}
    return compare([contestant], inputs, threads, batch, seconds, warm_up)[0]


def compare(
    contestants: list[dict[str, Any]],
    inputs: str,
    threads: int,
    batch: int,
    seconds: float,
    warm_up: float = WARM_UP,
) -> Any:
    """Time several artifacts in turns, so that their ratio is fair; a `BenchEntry` of each as data.

    A contestant has `artifact`, `runtime` and `kind` ("float32" or "compressed").
    """
    samples = first_samples(Path(inputs), batch)
    runtimes = [_runtime(row["runtime"], row["artifact"]["model_format"]) for row in contestants]
    artifacts = [Artifact.from_json(row["artifact"]) for row in contestants]
    sources = [
        _source(runtime, artifact, samples, threads, warm_up)
        for runtime, artifact in zip(runtimes, artifacts, strict=True)
    ]
    timings = time_in_turns(sources, seconds)
    return [
        _entry(row, timing, 1 if isinstance(runtime, TimesItself) else threads, batch)
        for row, runtime, timing in zip(contestants, runtimes, timings, strict=True)
    ]


def first_samples(folder: Path, count: int) -> Tensors:
    """The first `count` samples of a folder of tensors, the same ones again when it has fewer."""
    import numpy as np

    from pipcook_deploy.tensors import load_tensors

    tensors = load_tensors(folder, count)
    return {
        name: np.ascontiguousarray(np.resize(value, (count, *value.shape[1:])))
        for name, value in tensors.items()
    }


def _source(
    runtime: Runtime, artifact: Artifact, samples: Tensors, threads: int, warm_up: float
) -> Source:
    if not isinstance(runtime, TimesItself):
        return repeated(partial(runtime.session(artifact, threads), samples), warm_up)
    itself: TimesItself = runtime

    def window(seconds: float) -> Window:
        times = itself.time_calls(artifact, samples, seconds=seconds, warm_up=warm_up)
        return [milliseconds / 1e3 for milliseconds in times]

    return window


def _entry(row: dict[str, Any], timing: Timing, threads: int, batch: int) -> dict[str, Any]:
    return {
        "format": row["artifact"]["format"],
        "artifact": row["kind"],
        "precision": row["artifact"]["precision"],
        "runtime": row["runtime"],
        "threads": threads,
        "batch": batch,
        **timing.numbers(batch),
    }


def _runtime(label: str, model_format: str) -> Runtime:
    for runtime in _variants():
        if runtime.label == label and model_format in runtime.formats:
            return runtime
    raise UnsupportedRuntimeError(
        f"no installed runtime {label!r} runs {model_format}", "run: pipcook-deploy plugins"
    )


def _variants() -> Iterator[Runtime]:
    for kind in plugins.runtimes():
        yield from kind.variants()


def _ready(runtime: Runtime) -> bool:
    """Whether it can be timed, and what it needs is installed."""
    if type(runtime).session is Runtime.session and not isinstance(runtime, TimesItself):
        return False
    with suppress(MissingDependencyError):
        runtime.require()
        return True
    return False
