"""Timing of winners and candidates: a runtime that lacks something is noted, and the others go on."""

from pathlib import Path
from types import SimpleNamespace

from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.compression import timing
from pipcook_deploy.errors import UnsupportedRuntimeError
from pipcook_deploy.jobs.workers import WorkerError


class Calls:
    """Workers of which those that are to time `broken` lack a kernel."""

    def __init__(self, broken=()):
        self.broken, self.asked = broken, []

    def call(self, function, arguments, *, heavy):
        rivals = arguments.get("contestants") or [arguments]
        self.asked.append(rivals[0]["runtime"])
        if self.asked[-1] in self.broken:
            raise UnsupportedRuntimeError("TF.js: the wasm backend has no kernel Erfinv")
        rows = [
            {"format": "tfjs", "artifact": row.get("kind", "compressed"), "precision": "uint8",
             "runtime": row["runtime"], "threads": 1, "batch": arguments["batch"], "p50_ms": 1.0,
             "p95_ms": 1.0, "throughput": 1.0, "windows": [1.0] * 5, "stable": True}
            for row in rivals
        ]  # fmt: skip
        return rows if "contestants" in arguments else rows[0]


BUILD = SimpleNamespace(artifact={"format": "tfjs", "model_format": "tfjs_graph"})
BENCH = BenchOptions(threads=1)


def _pairs(monkeypatch, calls, runtimes):
    monkeypatch.setattr(timing, "timed_runtimes", lambda _: runtimes)
    untimed = []
    rows = timing.timed_pairs(calls, Path("inputs"), BENCH, [(BUILD, BUILD)], untimed)
    return [(row.runtime, row.artifact) for row in rows], untimed


def test_the_slow_backend_is_timed_only_where_the_fast_one_lacks_a_kernel(monkeypatch):
    backends = ("tfjs-cpu", "tfjs-wasm")
    rows, untimed = _pairs(monkeypatch, Calls(), backends)
    assert rows == [("tfjs-wasm", "float32"), ("tfjs-wasm", "compressed")]
    assert untimed == []
    rows, untimed = _pairs(monkeypatch, Calls(broken=("tfjs-wasm",)), backends)
    assert rows == [("tfjs-cpu", "float32"), ("tfjs-cpu", "compressed")]
    assert untimed == ["tfjs: not timed: TF.js: the wasm backend has no kernel Erfinv"]


def test_every_engine_of_a_format_is_timed(monkeypatch):
    rows, _ = _pairs(monkeypatch, Calls(), ("onnxruntime", "openvino"))
    assert {runtime for runtime, _ in rows} == {"onnxruntime", "openvino"}


def test_a_candidate_is_timed_in_its_formats_own_runtime(monkeypatch):
    monkeypatch.setattr(timing, "timed_runtimes", lambda _: ("onnxruntime", "openvino"))
    calls = Calls()
    assert timing.latency_in(calls, Path("inputs"), BENCH)(BUILD) == 1.0
    assert calls.asked == ["onnxruntime"]


def test_a_format_that_nothing_times_has_no_latency(monkeypatch):
    monkeypatch.setattr(timing, "timed_runtimes", lambda _: ())
    assert timing.latency_in(Calls(), Path("inputs"), BENCH)(BUILD) is None
    monkeypatch.setattr(timing, "timed_runtimes", lambda _: ("tfjs-cpu", "tfjs-wasm"))
    calls = Calls(broken=("tfjs-wasm",))
    assert timing.latency_in(calls, Path("inputs"), BENCH)(BUILD) == 1.0
    assert calls.asked == ["tfjs-wasm", "tfjs-cpu"]


def test_a_runtime_that_dies_while_it_is_timed_ends_nothing_else(monkeypatch):
    class Dying(Calls):
        def call(self, function, arguments, *, heavy):
            rivals = arguments.get("contestants") or [arguments]
            if rivals[0]["runtime"] == "openvino":
                raise WorkerError("the worker was ended by SIGSEGV", Path("no.log"))
            return super().call(function, arguments, heavy=heavy)

    rows, untimed = _pairs(monkeypatch, Dying(), ("onnxruntime", "openvino"))
    assert {runtime for runtime, _ in rows} == {"onnxruntime"}
    assert untimed == ["tfjs: not timed in openvino: the worker was ended by SIGSEGV"]
