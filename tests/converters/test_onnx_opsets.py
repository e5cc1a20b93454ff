"""ONNX in every operator set that is offered: the file says so, the answers are the source's."""

import numpy as np
import pytest

from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.sources.graph_sources import load_onnx, load_saved_model

pytestmark = pytest.mark.heavy
WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Model:
    """Operators whose form changed between opsets: axes as inputs, splits, squeezes, reductions, GELU."""
    import tensorflow as tf

    def serve(x):
        hidden = tf.nn.gelu(x @ tf.constant(WEIGHTS), approximate=False)
        first, second = tf.split(tf.concat([hidden, hidden + 1.0], 1), 2, 1)
        mean = tf.squeeze(tf.reduce_mean(first, 1, keepdims=True), 1)
        return {"mean": mean, "share": tf.nn.softmax(second), "again": mean}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[tf.TensorSpec((None, 4), tf.float32, "x")])
    folder = tmp_path_factory.mktemp("opsets") / "model"
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return load_saved_model(folder, False, None)


@pytest.fixture(scope="module")
def expected():
    x = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    from math import erf

    z = x @ WEIGHTS
    hidden = z * 0.5 * (1 + np.vectorize(erf)(z / np.sqrt(2)))
    share = np.exp(hidden + 1)
    mean = hidden.mean(1)
    return x, {"mean": mean, "share": share / share.sum(1, keepdims=True), "again": mean}


@pytest.mark.parametrize("opset", range(13, 24))
def test_every_opset(opset, source, expected, tmp_path):
    artifact = OnnxConverter(opset=opset).convert(source, tmp_path)
    assert load_onnx(artifact.file, False, None).details["opset"] == opset
    assert artifact.details["opset"] == opset
    x, outputs = expected
    answers = OnnxRuntime().run_artifact(artifact, {"x": x})
    assert answers.keys() == outputs.keys()
    for name, value in outputs.items():
        np.testing.assert_allclose(answers[name], value, atol=1e-6)


def test_without_slimming_the_answers_are_the_same(source, expected, tmp_path):
    artifact = OnnxConverter(slim=False).convert(source, tmp_path)
    x, outputs = expected
    answers = OnnxRuntime().run_artifact(artifact, {"x": x})
    np.testing.assert_allclose(answers["share"], outputs["share"], atol=1e-6)
