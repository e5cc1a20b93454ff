"""Timing inside a compression: a candidate's latency, and the bench of what won."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from pipcook_deploy.bench.measure import timed_runtimes
from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.compression.candidates import Build
from pipcook_deploy.errors import CompressionError, UnsupportedRuntimeError
from pipcook_deploy.jobs.workers import WorkerError, Workers
from pipcook_deploy.report.entries import BenchEntry

SHORT = 0.5  # seconds that a candidate is timed for
BORROWED = "openvino"  # runs ONNX files, and is not the runtime that the format was made for
SLOW = "tfjs-cpu"  # is timed only where wasm lacks a kernel
MEASURE = "pipcook_deploy.bench.measure"


def latency_in(
    workers: Workers, inputs: Path, bench: BenchOptions
) -> Callable[[Build], float | None]:
    """A function that times a build in its format's own runtime: the median milliseconds of an answer.

    None for a format whose runtime keeps no model open. One build at a time: timing wants the cores for itself.
    """
    lock = Lock()

    def measure(build: Build) -> float | None:
        format = build.artifact["model_format"]
        with lock:
            for runtime in [r for r in reversed(timed_runtimes(format)) if r != BORROWED]:
                arguments = {
                    "artifact": build.artifact,
                    "runtime": runtime,
                    "inputs": str(inputs),
                    "threads": bench.used_threads,
                    "batch": bench.batch_sizes[0],
                    "seconds": min(SHORT, bench.seconds),
                    "warm_up": bench.warm_up,
                }
                try:
                    row = workers.call(f"{MEASURE}:measure", arguments, heavy=False)
                except UnsupportedRuntimeError:
                    continue
                except WorkerError as error:
                    raise CompressionError(f"{runtime} ends when it is timed: {error}") from error
                return float(row["p50_ms"])
        return None

    return measure


def timed_pairs(
    workers: Workers,
    inputs: Path,
    bench: BenchOptions,
    pairs: Sequence[tuple[Build, Build]],
    untimed: list[str],
) -> list[BenchEntry]:
    """Every float32 build and its compressed twin, in turns, in every runtime that keeps models open.

    What a runtime cannot time is told in `untimed`.
    """
    rows: list[BenchEntry] = []
    for base, build in pairs:
        runtimes = timed_runtimes(build.artifact["model_format"])
        done: list[str] = []
        for runtime in reversed(runtimes):
            if runtime == SLOW and done:
                continue
            rivals = [
                {"artifact": base.artifact, "runtime": runtime, "kind": "float32"},
                {"artifact": build.artifact, "runtime": runtime, "kind": "compressed"},
            ]
            try:
                rows += _compared(workers, inputs, bench, rivals)
                done.append(runtime)
            except UnsupportedRuntimeError as error:  # a kernel that one backend lacks
                untimed.append(f"{build.artifact['format']}: not timed: {error.message}")
            except WorkerError as error:
                untimed.append(f"{build.artifact['format']}: not timed in {runtime}: {error}")
    return rows


def _compared(
    workers: Workers, inputs: Path, bench: BenchOptions, rivals: list[dict[str, Any]]
) -> list[BenchEntry]:
    rows: list[BenchEntry] = []
    for batch in bench.batch_sizes:
        arguments = {
            "contestants": rivals,
            "inputs": str(inputs),
            "threads": bench.used_threads,
            "batch": batch,
            "seconds": bench.seconds,
            "warm_up": bench.warm_up,
        }
        found = workers.call(f"{MEASURE}:compare", arguments, heavy=False)
        rows += [BenchEntry.model_validate(row) for row in found]
    return rows
