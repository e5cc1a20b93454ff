"""Smaller ONNX files of real architectures: the example CNN, recurrences, attention, several inputs."""

from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.compare import compare_outputs, tolerance_for
from pipcook_deploy.converters.onnx_quantize.damage import node_damage, weight_damage
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.files import wire_sizes
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.sources.graph_sources import load_onnx, load_saved_model
from pipcook_deploy.tensors import save_tensors
from tests import zoo

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]


def made(model, folder, inputs):
    """The SavedModel and the float32 ONNX file of a Keras model, and a calibration set."""
    model.export(str(folder / "saved_model"), verbose=False)
    source = load_saved_model(folder / "saved_model", False, None)
    (folder / "float32").mkdir()
    OnnxConverter().convert(source, folder / "float32")
    np.savez(folder / "calibration.npz", **inputs)
    return source, load_onnx(folder / "float32" / "model.onnx", False, None)


def lowered(source, folder, precision, **options):
    folder.mkdir()
    converter = OnnxConverter(precision=precision, **options)
    return converter.convert(source, folder)


def test_the_example_is_a_quarter_in_bytes_and_on_the_wire(tmp_path):
    import keras

    model = keras.models.load_model(ROOT / "examples" / "fashion-mnist" / "model.keras")
    rng = np.random.default_rng(0)
    pictures = 255 * rng.random((64, 28, 28, 3)) * rng.random((64, 1, 1, 3))
    inputs = {zoo.input_name(model.inputs[0]): pictures.astype(np.float32)}
    source, plain = made(model, tmp_path, inputs)
    size, (_, wire) = plain.path.stat().st_size, wire_sizes(plain.path)
    truth = OnnxRuntime().run_model(plain, inputs)
    for precision in ("int8", "int8_weights"):
        artifact = lowered(
            source, tmp_path / precision, precision, calibration=tmp_path / "calibration.npz"
        )
        assert artifact.file.stat().st_size <= 0.28 * size
        assert wire_sizes(artifact.file)[1] <= 0.28 * wire
        answers = OnnxRuntime().run_artifact(artifact, inputs)
        assert all(r.passed for r in compare_outputs(truth, answers, tolerance_for(precision)))
        again = lowered(
            plain,
            tmp_path / f"{precision}_again",
            precision,
            calibration=tmp_path / "calibration.npz",
        )
        assert again.details["quantization"]["float"] == []


@pytest.mark.parametrize("name", ["lstm", "gru", "transformer", "multi_io"])
def test_every_architecture_in_every_precision(name, tmp_path):
    model = zoo.ZOO[name]()
    calibration = zoo.sample_inputs(model, 48, seed=3)
    source, plain = made(model, tmp_path, calibration)
    inputs = zoo.sample_inputs(model, 24)
    truth = OnnxRuntime().run_model(plain, inputs)
    for precision in ("int8", "int8_weights", "float16"):
        artifact = lowered(
            source, tmp_path / precision, precision, calibration=tmp_path / "calibration.npz"
        )
        answers = OnnxRuntime().run_artifact(artifact, inputs)
        for row in compare_outputs(truth, answers, tolerance_for(precision)):
            assert row.passed and row.max_rel < 0.05, (precision, row)
        assert artifact.file.stat().st_size < plain.path.stat().st_size
    save_tensors(tmp_path / "inputs", inputs)
    arguments = str(plain.path), str(tmp_path / "inputs"), 8
    parts = node_damage(*arguments)
    assert parts and all(0 <= value < 0.1 for value in parts.values())
    assert set(weight_damage(*arguments)) <= set(parts)
    (tmp_path / "worst").mkdir()
    worst = OnnxConverter(precision="int8", calibration=tmp_path / "calibration.npz").without(
        [max(parts, key=parts.__getitem__)]
    )
    kept = worst.convert(plain, tmp_path / "worst")
    assert max(parts, key=parts.__getitem__) in kept.details["quantization"]["float"]
