"""Keras models to SavedModel, ONNX and TFLite: answers, names, batches, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.converters.to_saved_model import SavedModelConverter
from pipcook_deploy.converters.to_tflite import TfliteConverter
from pipcook_deploy.errors import UntrustedSourceError
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.runtimes.tensorflow_runtime import TensorFlowRuntime
from pipcook_deploy.sources.keras_source import load_archive
from tests import zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras 3
]


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def saved(name: str, tmp: Path):
    model = zoo.ZOO[name]()
    model.save(tmp / "model.keras")
    source = load_archive(tmp / "model.keras", tmp, False)
    inputs = zoo.sample_inputs(model, 5)
    outputs = zoo.outputs_of(model, inputs)
    return source, inputs, dict(zip([o.name for o in source.spec.outputs], outputs, strict=True))


def near(actual, expected, limit=1e-5):
    assert set(actual) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, atol=limit, rtol=0)


@pytest.mark.parametrize("name", zoo.SMALL)
def test_saved_model_and_onnx_answer_like_the_source(name, tmp_path):
    source, inputs, expected = saved(name, tmp_path)
    artifact = SavedModelConverter().convert(source, folder(tmp_path / "sm"))
    near(TensorFlowRuntime().run_artifact(artifact, inputs), expected)
    middle = replace(source, path=artifact.file, format="saved_model")
    onnx = OnnxConverter().convert(middle, folder(tmp_path / "onnx"))
    near(OnnxRuntime().run_artifact(onnx, inputs), expected)
    assert {b.tensor for b in onnx.inputs} == set(inputs)


@pytest.mark.parametrize("name", ["mlp", "multi_io", "gru"])
def test_tflite_answers_like_the_source(name, tmp_path):
    source, inputs, expected = saved(name, tmp_path)
    artifact = TfliteConverter().convert(source, folder(tmp_path / "out"))
    near(LiteRtRuntime().run_artifact(artifact, inputs), expected)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.tflite"]


def test_a_lambda_is_refused(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "l.keras")
    source, _, _ = saved("mlp", tmp_path)
    with pytest.raises(UntrustedSourceError):
        load_keras(replace(source, path=tmp_path / "l.keras"))
