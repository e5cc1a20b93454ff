"""OpenVINO: computes our int8 files in int8, is optional, and is loaded by nobody else."""

import subprocess
import sys

import numpy as np
import pytest

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.errors import MissingDependencyError, SourceError, UnsupportedRuntimeError
from pipcook_deploy.runtime import Runtime
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.runtimes.openvino_runtime import OpenVinoRuntime
from pipcook_deploy.sources.graph_sources import load_onnx
from pipcook_deploy.steps import checks_for, runtime_for
from pipcook_deploy.verification import variants_of
from tests.converters import onnx_made

needs_openvino = pytest.mark.skipif(not OpenVinoRuntime.installed(), reason="openvino is an extra")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return load_onnx(onnx_made.convnet(tmp_path_factory.mktemp("s") / "s.onnx"), False, None)


@pytest.fixture(scope="module")
def int8(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    calibration = tmp_path_factory.mktemp("calibration") / "calibration.npz"
    np.savez(calibration, image=onnx_made.pictures(64))
    return OnnxConverter(precision="int8", calibration=calibration).convert(source, folder)


@needs_openvino
def test_every_convolution_of_an_int8_file_computes_in_int8(int8):
    import openvino

    compiled = openvino.Core().compile_model(str(int8.file), "CPU", {"PERF_COUNT": True})
    request = compiled.create_infer_request()
    request.infer([onnx_made.pictures(1)])
    kinds = {
        row.node_name: row.exec_type
        for row in request.profiling_info
        if row.node_type in ("Convolution", "FullyConnected", "FullyConnectedQuantizedLegacy")
        and row.status == openvino.ProfilingInfo.Status.EXECUTED
    }
    assert len(kinds) == 5
    assert all(kind.lower().endswith(("i8", "u8")) for kind in kinds.values()), kinds


@needs_openvino
def test_both_engines_agree_on_int8(int8, source):
    inputs = {"image": onnx_made.pictures(40, seed=3)}
    truth = OnnxRuntime().run_model(source, inputs)["answer"]
    for runtime in (OnnxRuntime(), OpenVinoRuntime()):
        found = runtime.run_artifact(int8, inputs)["answer"]
        assert np.abs(found - truth).max() < 0.03, runtime.label


@pytest.mark.parametrize("kind", [OnnxRuntime, pytest.param(OpenVinoRuntime, marks=needs_openvino)])
def test_a_session_answers_like_a_run_again_and_again(kind, int8):
    call = kind().session(int8, threads=1)
    for count in (1, 3, 1):
        inputs = {"image": onnx_made.pictures(count, seed=count)}
        expected = kind().run_artifact(int8, inputs)["answer"]
        first, again = call(inputs)["answer"], call(inputs)["answer"]
        np.testing.assert_allclose(first, expected, atol=1e-5)
        np.testing.assert_array_equal(first, again)
        call({"image": inputs["image"] * 0})
        np.testing.assert_array_equal(first, again), "an answer is not overwritten by the next"
    with pytest.raises(SourceError, match="input image"):
        call({"picture": onnx_made.pictures(1)})


@needs_openvino
def test_it_checks_beside_onnx_runtime(monkeypatch):
    assert runtime_for("onnx") is OnnxRuntime
    assert [row.label for row in checks_for("onnx")] == ["onnxruntime", "openvino"]
    assert len(variants_of("onnx")) == 2


def test_where_it_is_not_installed_nobody_misses_it(monkeypatch, int8):
    monkeypatch.setattr("pipcook_deploy.runtimes.openvino_runtime.find_spec", lambda name: None)
    assert [row.label for row in checks_for("onnx")] == ["onnxruntime"]
    assert OpenVinoRuntime not in plugins.runtimes()
    with pytest.raises(MissingDependencyError, match="openvino"):
        OpenVinoRuntime().run_artifact(int8, {"image": onnx_made.pictures(1)})


def test_a_runtime_without_sessions_says_so(int8):
    class Other(OnnxRuntime):
        session = Runtime.session

    with pytest.raises(UnsupportedRuntimeError, match="keeps no model open"):
        Other().session(int8, 1)


def test_listing_the_runtimes_does_not_load_it():
    code = (
        "import sys; from pipcook_deploy import plugins; plugins.runtimes()\n"
        "from pipcook_deploy.steps import checks_for; checks_for('onnx')\n"
        "sys.exit('openvino' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@needs_openvino
def test_what_it_cannot_translate_is_named_without_the_place_of_the_file(tmp_path):
    from onnx import helper

    nodes = [helper.make_node("Relu", ["image"], ["r"], "fine"),
             helper.make_node("Unknown", ["r"], ["answer"], "odd", domain="somebody.else")]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", 1, ["n", 2])],
        [helper.make_tensor_value_info("answer", 1, ["n", 2])],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("somebody.else", 1)]
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=sets).SerializeToString())
    artifact = Artifact("onnx", "onnx", tmp_path, "model.onnx", (), ())
    with pytest.raises(UnsupportedRuntimeError, match="OpenVINO does not translate it") as caught:
        OpenVinoRuntime().run_artifact(artifact, {})
    assert str(tmp_path) not in caught.value.message
    assert "Unknown" in caught.value.message
