"""Timing of winners: a runtime that lacks something is noted, and the others go on."""

from pathlib import Path
from types import SimpleNamespace

from pipcook_deploy.bench.options import BenchOptions
from pipcook_deploy.compression.compress import Compressor
from pipcook_deploy.errors import UnsupportedRuntimeError


class Calls:
    """Workers of which those that are to time wasm lack a kernel."""

    def call(self, function, arguments, *, heavy):
        (row,) = arguments["contestants"]
        if row["runtime"] == "tfjs-wasm":
            raise UnsupportedRuntimeError("TF.js: the wasm backend has no kernel Erfinv")
        return [
            {"format": "tfjs", "artifact": "compressed", "precision": "uint8", "runtime": row["runtime"],
             "threads": 1, "batch": arguments["batch"], "p50_ms": 1.0, "p95_ms": 1.0, "throughput": 1.0,
             "windows": [1.0] * 5, "stable": True}
        ]  # fmt: skip


def test_a_backend_without_a_kernel_is_noted_and_another_timed():
    compressor = Compressor(
        lab=SimpleNamespace(workers=Calls()), request=SimpleNamespace(bench=BenchOptions(threads=1)),
        converters=(), samples=None, inputs=Path("inputs"), jobs=1, listener=None,
    )  # fmt: skip
    artifact = {"format": "tfjs", "model_format": "tfjs_graph"}
    rows = [
        row
        for runtime in ("tfjs-wasm", "tfjs-cpu")
        for row in compressor._compared(
            [{"artifact": artifact, "runtime": runtime, "kind": "compressed"}], 1
        )
    ]
    assert [row.runtime for row in rows] == ["tfjs-cpu"]
    assert compressor.untimed == ["tfjs: not timed: TF.js: the wasm backend has no kernel Erfinv"]
