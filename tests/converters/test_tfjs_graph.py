import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.to_tfjs import TfjsConverter
from pipcook_deploy.errors import ConversionError, SourceError, UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import read_model
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.tfjs_node import TfjsNodeRuntime
from pipcook_deploy.spec import ModelSpec, TensorSpec
from tests import zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

Tensors = dict[str, np.ndarray]


class Exported:
    """A SavedModel, samples for it and its answers."""

    def __init__(self, folder: Path, inputs: Tensors, outputs: Tensors) -> None:
        self.model = Model(folder, "saved_model", ModelSpec())
        self.inputs, self.outputs = inputs, outputs

    def assert_answers(self, artifact: Artifact, backend: str, atol: float) -> None:
        found = TfjsNodeRuntime(backend).run_artifact(artifact, self.inputs)  # type: ignore[arg-type]
        assert found.keys() == self.outputs.keys()
        for name, value in self.outputs.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=atol)


def export_keras(model: Any, folder: Path, samples: int = 3) -> Exported:
    model.export(str(folder), verbose=False)
    inputs = zoo.sample_inputs(model, samples)
    answers = zoo.outputs_of(model, inputs)
    return Exported(folder, inputs, {f"output_{i}": value for i, value in enumerate(answers)})


def export_function(function: Any, folder: Path, inputs: Tensors) -> Exported:
    import tensorflow as tf

    module = tf.Module()
    module.run = function
    tf.saved_model.save(module, str(folder))
    outputs = {name: value.numpy() for name, value in function(**inputs).items()}
    return Exported(folder, inputs, outputs)


def every_layer(k: Any) -> Any:
    """What folds, fuses or is rewritten, one after the other."""
    x = image = k.Input((16, 16, 3), name="image")
    x = k.layers.Conv2D(4, 3, activation="sigmoid")(x)
    x = k.layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.LeakyReLU()(x)
    x = k.layers.Conv2DTranspose(3, 2, strides=2, use_bias=False)(x)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.UpSampling2D(interpolation="bilinear")(x)
    x = k.layers.PReLU(alpha_initializer="normal")(x)
    x = k.layers.Conv2D(4, 3, dilation_rate=2, activation="gelu")(x)
    x = k.layers.Activation("hard_swish")(x)
    x = k.layers.AveragePooling2D(2, padding="same")(x)
    x = k.layers.Flatten()(x)
    x = k.layers.Dense(8, activation="relu")(x)
    x = k.layers.BatchNormalization()(x)
    return k.Model(image, k.layers.Dense(5, activation="softsign")(x))


def every_recurrent_layer(k: Any) -> Any:
    """Layers over layers, forwards and backwards; a mask; a dense layer for every step."""
    x = tokens = k.Input((7,), dtype="int32", name="tokens")
    x = k.layers.Embedding(zoo.VOCABULARY, 4, mask_zero=True)(x)
    x = k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True))(x)
    x = k.layers.GRU(4, return_sequences=True, go_backwards=True)(x)
    x = k.layers.Dense(3, activation="relu")(x)
    x = k.layers.SimpleRNN(4)(x)
    return k.Model(tokens, k.layers.Dense(2, activation="softmax")(x))


def attention(k: Any) -> Any:
    """A causal mask and exact GELU."""
    x = series = k.Input((8, 6), name="series")
    x = k.layers.Conv1D(4, 3, padding="causal", activation="relu")(x)
    x = k.layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    x = k.layers.Dense(4, activation="gelu")(k.layers.LayerNormalization()(x))
    return k.Model(series, k.layers.GlobalMaxPooling1D()(x))


MADE: dict[str, Callable[[Any], Any]] = {
    "every_layer": every_layer,
    "recurrent": every_recurrent_layer,
    "attention": attention,
}
NAMES = ("mlp", "cnn", "multi_io", *MADE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def get(name: str) -> Exported:
        if name not in made:
            model = zoo._build(MADE[name]) if name in MADE else zoo.ZOO[name]()
            made[name] = export_keras(model, folder / name)
        return made[name]

    return get


@pytest.fixture
def converted(
    exported: Callable[[str], Exported], tmp_path: Path
) -> Callable[..., tuple[Exported, Artifact]]:
    def get(name: str, **options: Any) -> tuple[Exported, Artifact]:
        source = exported(name)
        return source, TfjsConverter(**options).convert(source.model, tmp_path)

    return get


@pytest.mark.node
@pytest.mark.parametrize("name", NAMES)
def test_keras_models_answer_the_same_on_both_backends(name: str, converted: Any) -> None:
    source, artifact = converted(name)
    for backend in TfjsNodeRuntime.backends:
        source.assert_answers(artifact, backend, 1e-5)
    assert artifact.inputs[0].shape[0] is None


def test_nothing_is_left_that_could_be_folded(converted: Any) -> None:
    _, artifact = converted("mlp")
    assert artifact.details["ops"] == 5  # three fused products, tanh, softmax


@pytest.mark.node
@pytest.mark.parametrize("name", ["lstm_mask", "gru"])
def test_recurrent_layers_of_keras_2_are_written_out(name: str, tmp_path: Path) -> None:
    import tensorflow as tf

    model = zoo.legacy(name)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    inputs = zoo.sample_inputs(model, 2)
    (answer,) = zoo.outputs_of(model, inputs)
    (tmp_path / "out").mkdir()
    source = Model(tmp_path / "saved", "saved_model", ModelSpec())
    artifact = TfjsConverter().convert(source, tmp_path / "out")
    outputs = {artifact.outputs[0].name: answer}
    Exported(tmp_path / "saved", inputs, outputs).assert_answers(artifact, "wasm", 1e-5)


@pytest.mark.node
@pytest.mark.parametrize(
    ("precision", "atol"), [("float16", 1e-2), ("uint16", 1e-3), ("uint8", 0.1)]
)
def test_smaller_weights_answer_nearly_the_same(
    precision: str, atol: float, converted: Any
) -> None:
    source, artifact = converted("multi_io", precision=precision, shard_size=4096)
    source.assert_answers(artifact, "cpu", atol)
    model = read_model(artifact.file)
    assert artifact.precision == precision and len(model.files) > 1
    stored = {s["name"]: s.get("quantization", {}).get("dtype") for s in model.specs}
    kernels = [name for name in stored if name.endswith("kernel")]
    assert len(kernels) == 4
    for name, dtype in stored.items():
        assert dtype == (precision if name in kernels else None), name


def test_precision_is_chosen_by_weight(converted: Any) -> None:
    _, artifact = converted("mlp", weights={"*dense_1*/kernel": "uint8", "*bias": "float16"})
    stored = {
        spec["name"].split("/", 1)[1]: spec.get("quantization", {}).get("dtype")
        for spec in read_model(artifact.file).specs
    }
    assert [d for name, d in stored.items() if "dense_1" in name] == ["uint8", "float16"]
    assert artifact.precision == "uint8"


@pytest.mark.node
def test_types_that_tfjs_lacks_become_those_it_has(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 4), tf.float64, "a"),
            tf.TensorSpec((None,), tf.int64, "n"),
            tf.TensorSpec((None, 4), tf.bool, "flag"),
        ]
    )
    def run(a: Any, n: Any, flag: Any) -> Any:
        y = tf.where(flag, a @ tf.constant(np.arange(16.0).reshape(4, 4) / 10), a)
        half = tf.split(y, 2, -1)[1]
        return {"y": y, "top": tf.argmax(y, -1) + n, "same": flag, "again": y, "half": half}

    rng = np.random.default_rng(1)
    inputs = {"a": rng.random((3, 4)), "n": np.arange(3), "flag": rng.random((3, 4)) > 0.5}
    source = export_function(run, tmp_path / "saved", inputs)
    (tmp_path / "out").mkdir()
    artifact = TfjsConverter().convert(source.model, tmp_path / "out")
    assert {b.name: b.dtype for b in artifact.inputs} == {
        "a": "float32", "n": "int32", "flag": "bool",
    }  # fmt: skip
    for backend in TfjsNodeRuntime.backends:
        source.assert_answers(artifact, backend, 1e-5)


def test_the_interface_keeps_the_order_of_the_spec(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    specs = [
        TensorSpec(name="picture", dtype="float32", shape=(None, 16, 16, 3)),
        TensorSpec(name="extra", dtype="float32", shape=(None, 6)),
    ]
    model = exported("multi_io").model.with_spec(inputs=specs)
    artifact = TfjsConverter().convert(model, tmp_path)
    assert [binding.name for binding in artifact.inputs] == ["picture", "extra"]
    signature = read_model(artifact.file).signature
    assert signature is not None
    assert list(signature["inputs"]) == ["picture", "extra"]
    assert signature["inputs"]["extra"] == {
        "name": "extra:0",
        "dtype": "DT_FLOAT",
        "tensorShape": {"dim": [{"size": "-1"}, {"size": "6"}]},
    }


def test_the_same_model_gives_the_same_bytes(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    def digests(folder: Path) -> dict[str, str]:
        folder.mkdir()
        TfjsConverter().convert(exported("recurrent").model, folder)
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}

    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def refused(function: Any, tmp_path: Path, model: Model | None = None) -> str:
    """The message of a conversion that must fail before it writes anything."""
    import tensorflow as tf

    if model is None:
        module = tf.Module()
        module.run = function
        tf.saved_model.save(module, str(tmp_path / "saved"))
        model = Model(tmp_path / "saved", "saved_model", ModelSpec())
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedConversionError) as error:
        TfjsConverter().convert(model, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert error.value.hint
    return error.value.message


def test_operations_that_tfjs_lacks_are_named_with_their_layer(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "a")])
    def run(a: Any) -> Any:
        with tf.name_scope("odd_layer"):
            return {"y": tf.math.erfinv(a)}

    assert "no Erfinv: in odd_layer" in refused(run, tmp_path)


def test_a_branch_on_the_input_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, "a")])
    def run(a: Any) -> Any:
        return {"y": tf.cond(tf.reduce_sum(a) > 0, lambda: a, lambda: -a)}

    assert "depends on the input" in refused(run, tmp_path)


def test_a_recurrent_layer_over_any_number_of_steps_is_refused(tmp_path: Path) -> None:
    import keras

    series = keras.Input((None, 4), name="series")
    model = keras.Model(series, keras.layers.LSTM(3, name="reader")(series))
    model.export(str(tmp_path / "saved"), verbose=False)
    source = Model(tmp_path / "saved", "saved_model", ModelSpec())
    assert "reader" in refused(None, tmp_path, source)


def test_a_signature_that_is_not_there_is_refused(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    model = exported("mlp").model
    with pytest.raises(SourceError, match="no signature 'other'") as error:
        TfjsConverter().convert(
            Model(model.path, "saved_model", ModelSpec(), signature="other"), tmp_path
        )
    assert error.value.hint and "serving_default" in error.value.hint


@pytest.mark.node
def test_a_graph_model_is_copied_with_other_shards_and_weights(
    converted: Any, tmp_path: Path
) -> None:
    source, artifact = converted("multi_io")
    first = read_model(artifact.file)
    tensors = [
        [TensorSpec(name=b.name, dtype=b.dtype, shape=b.shape) for b in side]
        for side in (artifact.inputs, artifact.outputs)
    ]
    model = Model(artifact.file, "tfjs_graph", ModelSpec(inputs=tensors[0], outputs=tensors[1]))  # type: ignore[arg-type]
    same, small = tmp_path / "same", tmp_path / "small"
    for folder in (same, small):
        folder.mkdir()
    again = TfjsConverter(shard_size=2048).convert(model, same)
    second = read_model(again.file)
    assert second.topology == first.topology and len(second.files) > len(first.files)
    assert all(second.weights.encoded(n) == first.weights.encoded(n) for n in first.weights)
    source.assert_answers(again, "cpu", 1e-5)
    smaller = TfjsConverter(precision="uint8").convert(model, small)
    source.assert_answers(smaller, "cpu", 0.1)
    assert smaller.precision == "uint8"


def test_a_spec_that_names_no_tensor_of_the_graph_is_refused(
    converted: Any, tmp_path: Path
) -> None:
    _, artifact = converted("mlp")
    spec = ModelSpec(inputs=(TensorSpec(name="nobody", dtype="float32", shape=(None,)),))
    (tmp_path / "copy").mkdir()
    with pytest.raises(ConversionError, match="no tensor 'nobody'"):
        TfjsConverter().convert(Model(artifact.file, "tfjs_graph", spec), tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())


def test_model_json_is_plain_json_without_weights(converted: Any) -> None:
    _, artifact = converted("cnn")
    data = json.loads(artifact.file.read_text())
    assert data["format"] == "graph-model"
    consts = [node for node in data["modelTopology"]["node"] if node["op"] == "Const"]
    assert {node["name"] for node in consts} == {s["name"] for s in read_model(artifact.file).specs}
    assert all("value" not in node["attr"] for node in consts)
