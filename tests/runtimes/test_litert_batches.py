"""LiteRT takes many samples at once where that gives the same, and else one at a time."""

from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.runtimes import litert_runtime
from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
from pipcook_deploy.sources.graph_sources import load_tflite

pytestmark = pytest.mark.heavy
X = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)
WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def write(folder: Path, function, shape=(None, 4)) -> Path:
    """A TFLite file of `x -> y`."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(
        lambda x: {"y": function(tf, x)}, input_signature=[tf.TensorSpec(shape, tf.float32, "x")]
    )
    tf.saved_model.save(module, str(folder / "sm"), signatures=module.serve)
    path = folder / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder / "sm")).convert())
    return path


@pytest.fixture
def batches(monkeypatch):
    """Sizes of the batches that the interpreter was given."""
    sizes = []
    answer = litert_runtime.LiteRtGraph.__call__

    def counted(self, rows):
        sizes.append(len(rows["x"]))
        return answer(self, rows)

    monkeypatch.setattr(litert_runtime.LiteRtGraph, "__call__", counted)
    return sizes


def run(path: Path) -> np.ndarray:
    return LiteRtRuntime().run_model(load_tflite(path, False, None), {"x": X})["y"]


def test_a_model_that_takes_batches_is_given_them(tmp_path, batches):
    path = write(tmp_path, lambda tf, x: tf.tanh(x @ WEIGHTS))
    np.testing.assert_allclose(run(path), np.tanh(X @ WEIGHTS), atol=1e-6)
    assert batches.count(32) == 4 and batches.count(1) == 2  # two of each are the trial


def test_a_batch_of_one_written_into_the_graph_is_respected(tmp_path, batches):
    path = write(tmp_path, lambda tf, x: tf.reshape(tf.tanh(x @ WEIGHTS), (1, 3)), (None, 4))
    np.testing.assert_allclose(run(path), np.tanh(X @ WEIGHTS), atol=1e-6)
    assert batches.count(1) >= len(X)


def test_samples_that_would_mix_are_kept_apart(tmp_path, batches):
    """Right shapes, wrong numbers: the mean over the batch."""
    path = write(tmp_path, lambda tf, x: x - tf.reduce_mean(x, 0, keepdims=True))
    np.testing.assert_allclose(run(path), np.zeros_like(X), atol=1e-6)
    assert batches.count(1) >= len(X)


def test_a_fixed_batch_is_run_in_turns(tmp_path, batches):
    path = write(tmp_path, lambda tf, x: tf.tanh(x @ WEIGHTS), (4, 4))
    np.testing.assert_allclose(run(path), np.tanh(X @ WEIGHTS), atol=1e-6)
    assert set(batches) == {4}


def test_a_session_answers_like_a_run_whatever_the_batch(tmp_path) -> None:
    path = write(tmp_path, lambda tf, x: tf.nn.relu(x @ WEIGHTS))
    model = load_tflite(path, False, None)
    ins, outs = (
        tuple(Binding(t.name, t.name, t.dtype, t.shape) for t in tensors)
        for tensors in (model.spec.inputs, model.spec.outputs)
    )
    artifact = Artifact("tflite", "tflite", tmp_path, path.name, ins, outs)
    answer = LiteRtRuntime().session(artifact, threads=2)
    for count in (1, 5, 1):
        expected = LiteRtRuntime().run_artifact(artifact, {"x": X[:count]})
        np.testing.assert_allclose(answer({"x": X[:count]})["y"], expected["y"], rtol=1e-6)
