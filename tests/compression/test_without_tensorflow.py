"""Sources that no one needs TensorFlow for are compressed without it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy import deploy
from pipcook_deploy.errors import MissingDependencyError
from pipcook_deploy.runtimes.litert_runtime import run_file
from tests.converters import onnx_made

TFLITE = Path(__file__).parents[1] / "sources" / "data" / "small.tflite"
SAMPLES = 400


@dataclass
class Made:
    """A source of a format, and samples whose classes are what it answers."""

    format: str
    path: Path
    inputs: dict[str, np.ndarray]
    classes: np.ndarray
    count: int


def _onnx(folder):
    import onnxruntime

    path, images = onnx_made.convnet(folder / "source.onnx"), onnx_made.pictures(SAMPLES)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"image": images})
    return Made("onnx", path, {"image": images}, scores.argmax(-1), onnx_made.CLASSES)


def _tflite(_):
    rng = np.random.default_rng(0)
    inputs = {"keras_tensor": rng.normal(size=(SAMPLES, 8, 8, 3)).astype(np.float32)}
    scores = run_file(TFLITE, inputs, None, {})["output_0"]
    return Made("tflite", TFLITE, inputs, scores.argmax(-1), 3)


@pytest.fixture
def no_tensorflow(monkeypatch):
    def refuse():
        raise MissingDependencyError("converting needs TensorFlow, which is not installed")

    monkeypatch.setattr("pipcook_deploy.jobs.workers._require_tensorflow", refuse)


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize("make", [_onnx, _tflite])
def test_a_graph_is_compressed_into_its_own_format(make, tmp_path):
    made = make(tmp_path)
    samples = tmp_path / "samples.npz"
    np.savez(samples, label=made.classes, **made.inputs)
    bundle = deploy(
        made.path,
        out=tmp_path / "bundle",
        to=(made.format,),
        task="image-classification",
        labels=[f"class {number}" for number in range(made.count)],
        data={"evaluation": samples},
        budget={"max_drop": 0.05, "explore": 0},
        bench={"enabled": False},
    )
    assert bundle.formats == [made.format]
    assert bundle.entry(made.format).compression.blessed_by.drop.value <= 0.05
