"""Sources that no one needs TensorFlow for are compressed without it."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipcook_deploy import deploy, plugins
from pipcook_deploy.compression.parts import worst_parts
from pipcook_deploy.errors import MissingDependencyError
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.runtimes.litert_runtime import run_file
from pipcook_deploy.tensors import save_tensors
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


class PartsLab:
    """Knows the float32 artifact, and works out the damage in real workers."""

    def __init__(self, folder, file):
        self.folder, self.file = folder, file
        self.data = SimpleNamespace(splits={"calibration": SimpleNamespace(folder=folder)})

    def build(self, variant, converter):
        return SimpleNamespace(key="plain", made=SimpleNamespace(file=self.file))

    def worked_out(self, function, arguments, key, *, heavy):
        with Workers(self.folder) as workers:
            return workers.call(function, arguments, heavy=heavy)


@pytest.mark.usefixtures("no_tensorflow")
@pytest.mark.parametrize(
    ("make", "precision"),
    [
        (_onnx, "int8"),
        (_onnx, "int8_weights"),
        (_tflite, "int8"),
        (_tflite, "int16x8"),
        (_tflite, "dynamic"),
    ],
)
def test_the_parts_of_a_graph_are_tried(make, precision, tmp_path):
    made = make(tmp_path)
    save_tensors(tmp_path / "inputs", made.inputs)
    converter = plugins.converter(made.format)(precision=precision)
    build = SimpleNamespace(variant="source", converter=converter)
    assert worst_parts(PartsLab(tmp_path, made.path), build)


@pytest.mark.usefixtures("no_tensorflow")
def test_the_weights_of_a_tfjs_graph_are_tried_in_tensorflow(tmp_path):
    converter = plugins.converter("tfjs")(precision="uint8")
    build = SimpleNamespace(variant="source", converter=converter)
    with pytest.raises(MissingDependencyError, match="TensorFlow"):
        worst_parts(PartsLab(tmp_path, tmp_path / "model.json"), build)
