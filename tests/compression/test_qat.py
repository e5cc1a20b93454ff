"""Training with rounding: what comes out is int8, as good as before, and says what was left out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.qat import Qat
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError, ConversionError
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.sources import load
from tests import keras_made, zoo
from tests.compression.made_split import make_split
from tests.examples.loading import EXAMPLES, example_module

DATA = EXAMPLES / "fashion-mnist" / "data"

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*tf.lite.Interpreter is deprecated:UserWarning"),
]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(tmp_path_factory.mktemp("workers")) as made:
        yield made


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """Grey test images, 0-1, and their classes."""
    pictures, labels = example_module("fashion-mnist", "dataset").load("test", DATA)
    return (pictures[..., None] / 255).astype(np.float32), labels.astype(np.int64)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A trained network of convolutions only: 88 % right."""
    return load(EXAMPLES / "collapse/plain.keras", workdir=tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def train(images: Any, tmp_path_factory: pytest.TempPathFactory) -> Split:
    pictures, labels = images
    folder = tmp_path_factory.mktemp("train")
    return make_split(folder, {"image": pictures[:1024]}, labels[:1024])


def qat(workers: Workers, model: Model, into: Path, train: Split, **options: Any) -> PassResult:
    into.mkdir()
    arguments = {
        "name": "qat",
        "options": options,
        "model": model.to_json(),
        "into": str(into),
        "train": train.to_json(),
    }
    call = "tests.compression.apply_pass:apply_pass"
    return PassResult.from_json(workers.call(call, arguments, heavy=True))


def tflite(model: Model, into: Path, **options: Any) -> Artifact:
    from pipcook_deploy.converters.to_tflite import TfliteConverter

    into.mkdir()
    return TfliteConverter(precision="int8", **options).convert(model, into)


def accuracy(artifact: Artifact, images: Any) -> float:
    from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime

    pictures, labels = (part[2000:4000] for part in images)
    answers = LiteRtRuntime().run_artifact(artifact, {"image": pictures})["probabilities"]
    return float((answers.argmax(axis=-1) == labels).mean())


def integer_kernels(artifact: Artifact) -> dict[str, np.ndarray]:
    """The int8 constants of convolutions and products, by operator and place."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact.file))
    found = {}
    for number, row in enumerate(interpreter._get_ops_details()):
        if row["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            kernel = interpreter._get_tensor_details(row["inputs"][1], 0)
            assert kernel["dtype"] is np.int8, row
            found[f"{row['op_name']} {number}"] = interpreter.get_tensor(row["inputs"][1])
    return found


def test_trained_ranges_make_a_tflite_file_of_int8_without_calibration(
    workers: Workers, plain: Model, train: Split, images: Any, tmp_path: Path
):
    from pipcook_deploy.converters.to_tflite import TfliteConverter

    (tmp_path / "float").mkdir()
    before = accuracy(TfliteConverter().convert(plain, tmp_path / "float"), images)
    result = qat(workers, plain, tmp_path / "qat", train, result="saved_model", epochs=1)
    artifact = tflite(result.model, tmp_path / "int8")
    assert result.model.spec == plain.spec
    assert [b.name for b in (*artifact.inputs, *artifact.outputs)] == ["image", "probabilities"]
    assert len(integer_kernels(artifact)) == 8
    assert accuracy(artifact, images) > before - 0.01
    assert before > 0.85


def test_weights_that_learned_rounding_are_the_sources_own_in_its_own_format(
    workers: Workers, plain: Model, train: Split, images: Any, tmp_path: Path
):
    results = [
        qat(workers, plain, tmp_path / name, train, epochs=0.5, learning_rate=1e-3)
        for name in ("once", "again")
    ]
    assert results[0].model.path.read_bytes() == results[1].model.path.read_bytes()
    assert (results[0].model.format, results[0].model.spec) == ("keras", plain.spec)
    assert results[0].model.path.read_bytes() != plain.path.read_bytes()
    np.save(tmp_path / "calibration.npy", images[0][:100])
    artifact = tflite(results[0].model, tmp_path / "int8", calibration=tmp_path / "calibration.npy")
    assert accuracy(artifact, images) > 0.85


@pytest.mark.parametrize("kept", [True, False])
def test_zeros_survive_into_the_tflite_file_if_they_are_to(
    workers: Workers, plain: Model, train: Split, tmp_path: Path, kept: bool
):
    live = load_keras(plain)
    kernel, bias = live.get_layer("pointwise2").get_weights()
    mask = np.random.default_rng(0).random(kernel.shape) < 0.3
    live.get_layer("pointwise2").set_weights([kernel * mask, bias])
    live.save(tmp_path / "sparse.keras")
    sparse = load(tmp_path / "sparse.keras", workdir=tmp_path)
    options = {"result": "saved_model", "epochs": 0.5, "learning_rate": 1e-2}
    result = qat(workers, sparse, tmp_path / "qat", train, keep_sparsity=kept, **options)
    zeros = integer_kernels(tflite(result.model, tmp_path / "int8"))
    (found,) = [value for value in zeros.values() if value.shape == (64, 1, 1, 48)]
    was_zero = np.moveaxis(~mask, -1, 0).reshape(found.shape)
    assert (found[was_zero] == 0).all() == kept
    details = result.details["layers"]["pointwise2/kernel"]
    assert (details["sparsity"] >= (~mask).mean()) == kept


def test_clusters_stay_clusters(workers: Workers, plain: Model, train: Split, tmp_path: Path):
    live = load_keras(plain)
    kernel, bias = live.get_layer("pointwise2").get_weights()
    live.get_layer("pointwise2").set_weights([np.round(kernel * 4) / 4, bias])
    live.save(tmp_path / "clustered.keras")
    clustered = load(tmp_path / "clustered.keras", workdir=tmp_path)
    values = len(np.unique(np.round(kernel * 4)))
    result = qat(workers, clustered, tmp_path / "qat", train, epochs=0.5)
    assert result.details["layers"]["pointwise2/kernel"]["clusters"] <= values < 64


def test_a_batch_norm_before_all_convolutions_is_the_only_thing_left_out(
    workers: Workers, images: Any, tmp_path: Path
):
    model = load(EXAMPLES / "fashion-mnist/model.keras", workdir=tmp_path)
    pictures = np.repeat(images[0][:256] * 255, 3, axis=-1)
    train = make_split(tmp_path / "train", {"image": pictures}, images[1][:256])
    result = qat(workers, model, tmp_path / "qat", train, epochs=0.5)
    assert [name for name, done in result.details["int8"].items() if not done] == ["scale"]
    assert result.details["notes"] == [
        "scale: a batch norm is folded into Conv2D, DepthwiseConv2D, SeparableConv2D, Dense before it; "
        "here InputLayer is"
    ]
    with pytest.raises(CompressionError, match="\n  scale: BatchNormalization: a batch norm is"):
        qat(workers, model, tmp_path / "whole", train, partial=False)


@pytest.mark.parametrize("name", ["cnn", "multi_io", "lstm_mask"])
def test_what_rounds_answers_like_the_source(workers: Workers, name: str, tmp_path: Path):
    """Separable and transposed convolutions, several inputs and outputs, ids and masks."""
    from pipcook_deploy.runtimes.tensorflow_runtime import TensorFlowRuntime

    made = keras_made.save(getattr(zoo, name)(), tmp_path, samples=32)
    train = make_split(tmp_path / "train", made.inputs, None)
    options = {"result": "saved_model", "batch": 16, "learning_rate": 1e-6}
    result = qat(workers, made.model, tmp_path / "qat", train, **options)
    answers = TensorFlowRuntime().run_model(result.model, made.inputs)
    for output, value in made.outputs.items():
        assert 0 < np.abs(answers[output] - value).max() < 0.03 * np.abs(value).max()


def test_ids_are_not_rounded_and_tables_are(workers: Workers, tmp_path: Path):
    model = load(EXAMPLES / "spam/model.keras", workdir=tmp_path)
    ids = np.random.default_rng(0).integers(0, 3002, (128, 256)).astype(np.int32)
    train = make_split(tmp_path / "train", {"ids": ids}, None)
    result = qat(workers, model, tmp_path / "qat", train, result="saved_model", epochs=0.5)
    assert all(result.details["int8"].values())
    artifact = tflite(result.model, tmp_path / "int8")
    assert artifact.inputs[0].dtype == "int32"
    assert artifact.file.stat().st_size < 1.2 * 49_730


def test_a_model_that_was_trained_for_int8_is_written_in_nothing_else(
    workers: Workers, plain: Model, train: Split, tmp_path: Path
):
    from pipcook_deploy.converters.to_tflite import TfliteConverter

    result = qat(workers, plain, tmp_path / "qat", train, result="saved_model", epochs=0.1)
    with pytest.raises(ConversionError, match="was trained with the rounding of int8"):
        TfliteConverter().convert(result.model, tmp_path)


def shared_layer(folder: Path) -> Model:
    import keras

    keras.utils.set_random_seed(0)
    left, right = (keras.Input((4,), name=name) for name in ("left", "right"))
    dense = keras.layers.Dense(3, name="twice")
    joined = keras.layers.Concatenate(name="joined")([dense(left), dense(right)])
    return keras_made.save(keras.Model([left, right], joined, name="shared"), folder).model


def test_a_layer_used_twice_is_named(workers: Workers, tmp_path: Path):
    model = shared_layer(tmp_path)
    inputs = {name: np.ones((8, 4), np.float32) for name in ("left", "right")}
    train = make_split(tmp_path / "train", inputs, None)
    with pytest.raises(CompressionError, match="twice: is used 2 times") as refused:
        qat(workers, model, tmp_path / "refused", train)
    assert refused.value.exit_code == 4
    result = qat(workers, model, tmp_path / "qat", train, fallback="post_training")
    assert result.model == model
    assert result.details["engine"] == "none"
    assert "twice: is used 2 times" in json.dumps(result.details["notes"])


def test_nothing_to_train_with_is_an_error(plain: Model, tmp_path: Path):
    with pytest.raises(CompressionError, match="nothing to train with"):
        Qat().apply(plain, tmp_path)
