"""TFLite in every precision: the file shrinks, the types inside change, the answers agree."""

from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.api import deploy
from pipcook_deploy.converters.to_tflite import TfliteConverter
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
from pipcook_deploy.sources.keras_source import load_archive
from pipcook_deploy.spec import ModelSpec
from tests import keras_made, zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras 3
    # TensorFlow's own calibrator warns about itself
    pytest.mark.filterwarnings(r"ignore:\s*Warning. tf.lite.Interpreter is deprecated:UserWarning"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each model once: its source, samples and answers, and its float32 file's size."""
    found = {}

    def make(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            one = keras_made.save(zoo.ZOO[name](), folder, samples=16)
            np.savez(folder / "calibration.npz", **one.inputs)
            found[name] = one, folder / "calibration.npz"
        return found[name]

    return make


def convert(model: Model, into: Path, **options):
    into.mkdir()
    return TfliteConverter(**options).convert(model, into)


def types(path: Path) -> dict[str, set[str]]:
    """Element types of inputs, outputs and of all tensors."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    parts = {
        "inputs": interpreter.get_input_details(),
        "outputs": interpreter.get_output_details(),
        "all": interpreter.get_tensor_details(),
    }
    return {part: {np.dtype(d["dtype"]).name for d in rows} for part, rows in parts.items()}


@pytest.mark.parametrize(
    ("precision", "kind", "shrinks_to", "limit"),
    [("float16", "float16", 0.75, 2e-3), ("dynamic", "int8", 0.7, 2e-2)],
)
def test_weights_are_stored_smaller(precision, kind, shrinks_to, limit, made, tmp_path):
    one, _ = made("multi_io")
    plain = convert(one.model, tmp_path / "plain")
    artifact = convert(one.model, tmp_path / "small", precision=precision)
    assert artifact.file.stat().st_size < shrinks_to * plain.file.stat().st_size
    found = types(artifact.file)
    assert kind in found["all"] and found["inputs"] == found["outputs"] == {"float32"}
    answers = LiteRtRuntime().run_artifact(artifact, one.inputs)
    assert 0 < keras_made.largest_difference(answers, one.outputs) < limit


@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_int8_with_several_inputs_and_outputs(io, made, tmp_path):
    one, calibration = made("multi_io")
    artifact = convert(
        one.model, tmp_path / "out", precision="int8", io=io, calibration=calibration
    )
    found = types(artifact.file)
    assert found["inputs"] == found["outputs"] == {io}
    assert "int8" in found["all"] and artifact.precision == "int8"
    answers = LiteRtRuntime().run_artifact(artifact, one.inputs)
    assert {value.dtype.name for value in answers.values()} == {"float32"}
    assert keras_made.largest_difference(answers, one.outputs) < 0.1


@pytest.mark.parametrize("name", ["gru", "lstm_mask"])
def test_int8_recurrences_are_written_out(name, made, tmp_path):
    one, calibration = made(name)
    artifact = convert(one.model, tmp_path / "out", precision="int8", calibration=calibration)
    answers = LiteRtRuntime().run_artifact(artifact, one.inputs)
    assert keras_made.largest_difference(answers, one.outputs) < 0.02
    from pipcook_deploy.formats.tflite_file import read_tflite

    assert "WHILE" not in read_tflite(artifact.file.read_bytes()).ops


def test_a_recurrence_in_a_nested_model_is_written_out(tmp_path):
    import keras

    inner = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)], name="inner")
    series = keras.Input((5, 3), name="series")
    live = keras.Model(series, keras.layers.Dense(2, name="out")(inner(series)), name="nested")
    one = keras_made.save(live, tmp_path)
    artifact = convert(one.model, tmp_path / "out")
    answers = LiteRtRuntime().run_artifact(artifact, one.inputs)
    assert keras_made.largest_difference(answers, one.outputs) < 1e-5


def test_the_stage_calibrates_with_the_golden_samples(made, tmp_path):
    one, _ = made("multi_io")
    source = load_archive(one.model.path, tmp_path, False)
    options = {"tflite": {"precision": "int8", "io": "uint8"}}
    bundle = deploy(source, to=("tflite",), out=tmp_path / "bundle", options=options)
    (entry,) = bundle.manifest.artifacts
    assert entry.precision == "int8"
    assert [row.status for row in entry.verification] == ["passed"]
    assert types(tmp_path / "bundle" / "artifacts" / "tflite" / entry.entry)["inputs"] == {"uint8"}


def test_int8_without_calibration_is_refused(tmp_path):
    model = Model(tmp_path / "x", "keras", ModelSpec())
    with pytest.raises(ConversionError, match="calibration"):
        TfliteConverter(precision="int8").convert(model, tmp_path)


def test_quantized_io_of_a_float_model_is_refused(tmp_path):
    model = Model(tmp_path / "x", "keras", ModelSpec())
    with pytest.raises(ConversionError, match="io = 'uint8'"):
        TfliteConverter(io="uint8").convert(model, tmp_path)


def test_a_calibration_set_that_does_not_fit_is_refused(made, tmp_path):
    one, _ = made("multi_io")
    np.savez(tmp_path / "c.npz", picture=one.inputs["picture"])
    with pytest.raises(ConversionError, match="no array called 'extra'"):
        convert(one.model, tmp_path / "a", precision="int8", calibration=tmp_path / "c.npz")
    np.savez(tmp_path / "c.npz", picture=one.inputs["extra"], extra=one.inputs["extra"])
    with pytest.raises(ConversionError, match="picture: has shape"):
        convert(one.model, tmp_path / "b", precision="int8", calibration=tmp_path / "c.npz")
