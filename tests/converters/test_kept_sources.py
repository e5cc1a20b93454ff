"""ONNX and TFLite files as sources: bundled byte by byte, verified in their own runtime."""

from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.api import deploy, opened
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.check_bundle import verify_bundle
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.converters.to_tflite import TfliteConverter
from pipcook_deploy.errors import ServerError
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.serve_source import as_artifact
from pipcook_deploy.server.engines.make import make_engine
from pipcook_deploy.server.errors import InferenceError


def onnx_file(folder: Path, batch: int | str = "batch", external: bool = False) -> Path:
    """x [batch, 4] @ w -> y [batch, 3]; with `external` its weights are in weights/w.bin."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Tanh", ["product"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "small.onnx"
    if external:
        (folder / "weights").mkdir()
        onnx.save(
            model, path, save_as_external_data=True, location="weights/w.bin", size_threshold=0
        )
    else:
        onnx.save(model, path)
    return path


def test_an_onnx_file_is_bundled_verified_and_served_without_tensorflow(tmp_path, monkeypatch):
    """Its external data are copied along."""
    monkeypatch.setattr("pipcook_deploy.jobs.workers._require_tensorflow", _refuse)
    path = onnx_file(tmp_path, external=True)
    bundle = deploy(path, to=("onnx",), out=tmp_path / "bundle", name="small")
    place = tmp_path / "bundle" / "artifacts" / "onnx"
    assert (place / "model.onnx").read_bytes() == path.read_bytes()
    assert (place / "weights" / "w.bin").read_bytes() == (tmp_path / "weights/w.bin").read_bytes()
    (entry,) = bundle.manifest.artifacts
    assert entry.chain == ("onnx", "onnx")
    results = verify_bundle(tmp_path / "bundle")["onnx"]
    assert all(result.status == "passed" and result.samples == 16 for result in results)
    assert results[0].runtime == "onnxruntime"
    engine = make_engine(bundle.artifact("onnx"))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(engine.run({"x": x})["y"], OnnxRuntime().run_model(
        _loaded(path), {"x": x})["y"])  # fmt: skip


def _refuse():
    raise AssertionError("TensorFlow was asked for")


def _loaded(path: Path):
    with opened(path) as model:
        return model


def test_copies_need_no_tensorflow():
    assert not OnnxConverter().needs_tensorflow("onnx")
    assert OnnxConverter().needs_tensorflow("saved_model")
    assert not TfliteConverter().needs_tensorflow("tflite")
    assert TfliteConverter().needs_tensorflow("keras")


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_is_run_in_turns(batch, tmp_path):
    fixed = OnnxRuntime().run_model(_loaded(onnx_file(tmp_path, batch)), _x(7))
    free = OnnxRuntime().run_model(_loaded(onnx_file(tmp_path)), _x(7))
    np.testing.assert_array_equal(fixed["y"], free["y"])
    assert len(free["y"]) == 7


def _x(count: int):
    return {"x": np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)}


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory) -> Path:
    """[None, 4] -> [None, 3]"""
    import tensorflow as tf

    module = tf.Module()
    weights = tf.constant(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
    module.serve = tf.function(
        lambda x: {"y": tf.tanh(x @ weights)},
        input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")],
    )
    folder = tmp_path_factory.mktemp("tflite")
    tf.saved_model.save(module, str(folder / "sm"), signatures={"predict": module.serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "sm"), signature_keys=["predict"]
    )
    path = folder / "small.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.mark.heavy
def test_a_tflite_file_is_bundled_and_verified(tflite_file, tmp_path):
    bundle = deploy(tflite_file, to=("tflite",), out=tmp_path / "bundle")
    copy = tmp_path / "bundle" / "artifacts" / "tflite" / "model.tflite"
    assert copy.read_bytes() == tflite_file.read_bytes()
    (entry,) = bundle.manifest.artifacts
    assert entry.details["signature"] == "predict"
    (result,) = verify_bundle(tmp_path / "bundle")["tflite"]
    assert result.status == "passed" and entry.precision == "source"


@pytest.mark.heavy
def test_a_tflite_file_is_served(tflite_file):
    artifact = as_artifact(_loaded(tflite_file))
    engine = make_engine(artifact)
    assert engine.platform == "litert_tflite"
    x = _x(3)
    expected = np.tanh(x["x"] @ np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
    np.testing.assert_allclose(engine.run(x)["y"], expected, atol=1e-6)
    with pytest.raises(InferenceError):
        engine.run({"x": np.ones((2, 5), np.float32)})
    np.testing.assert_allclose(engine.run(x)["y"], expected, atol=1e-6)


def test_a_damaged_tflite_file_is_not_served(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    artifact = Artifact("tflite", "tflite", tmp_path, "x.tflite", (), ())
    with pytest.raises(ServerError):
        make_engine(artifact)


@pytest.mark.heavy
def test_a_tflite_file_of_floats_can_be_had_smaller(tflite_file, tmp_path):
    options = {"tflite": {"precision": "int8"}}
    bundle = deploy(tflite_file, to=("tflite",), out=tmp_path / "bundle", options=options)
    (entry,) = bundle.manifest.artifacts
    assert entry.precision == "int8"
    assert [row.status for row in entry.verification] == ["passed"]
