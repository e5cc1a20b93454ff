"""Timing in the runtimes themselves, in a worker as the stage does it. No time is asserted."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.bench.measure import timed_runtimes
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.report.entries import BenchEntry
from pipcook_deploy.tensors import save_tensors


@pytest.fixture
def artifact(tmp_path):
    """x [n, 4] times a matrix."""
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights]
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    (tmp_path / "onnx").mkdir()
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    ports = [(Binding(name, name, "float32", (None, 4)),) for name in "xy"]
    return Artifact("onnx", "onnx", tmp_path / "onnx", "model.onnx", *ports)


def test_onnx_is_timed_in_onnx_runtime_and_in_openvino_where_it_is():
    assert "onnxruntime" in timed_runtimes("onnx")
    assert timed_runtimes("no_such_format") == ()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_worker_times_a_pair_in_turns(artifact, runtime, tmp_path):
    if runtime not in timed_runtimes("onnx"):
        pytest.skip(f"{runtime} is not installed")
    save_tensors(tmp_path / "inputs", {"x": np.ones((2, 4), np.float32)})
    contestants = [
        {"artifact": artifact.to_json(), "runtime": runtime, "kind": kind}
        for kind in ("float32", "compressed")
    ]
    arguments = {
        "contestants": contestants, "inputs": str(tmp_path / "inputs"), "threads": 1, "batch": 3,
        "seconds": 0.02, "warm_up": 0.01,
    }  # fmt: skip
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Workers(scratch) as workers:
        rows = workers.call("pipcook_deploy.bench.measure:compare", arguments, heavy=False)
    entries = [BenchEntry.model_validate(row) for row in rows]
    assert [entry.artifact for entry in entries] == ["float32", "compressed"]
    assert {(entry.runtime, entry.threads, entry.batch) for entry in entries} == {(runtime, 1, 3)}
    assert all(0 < entry.p50_ms <= entry.p95_ms and len(entry.windows) >= 5 for entry in entries)


@pytest.mark.heavy
@pytest.mark.node
@pytest.mark.parametrize(
    ("model_format", "runtime", "threads"),
    [("tfjs_graph", "tfjs-wasm", 1), ("tflite", "litert", 2)],
)
def test_other_formats_are_timed_in_their_own_runtimes(twins, model_format, runtime, threads):
    assert timed_runtimes(model_format)[-1] == runtime
    arguments = {
        "artifact": twins.artifact(model_format).to_json(), "runtime": runtime, "threads": 2, "batch": 2,
        "inputs": str(twins.truth / "inputs"), "seconds": 0.1, "warm_up": 0.01,
    }  # fmt: skip
    row = twins.workers.call("pipcook_deploy.bench.measure:measure", arguments, heavy=False)
    entry = BenchEntry.model_validate(row)
    assert (entry.runtime, entry.threads, entry.batch) == (runtime, threads, 2)
    assert 0 < entry.p50_ms <= entry.p95_ms
