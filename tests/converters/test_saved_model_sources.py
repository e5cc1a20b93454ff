"""SavedModels made by others: several signatures, odd names, text, loops, labels in an asset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.api import deploy, opened
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.converters.to_saved_model import SavedModelConverter
from pipcook_deploy.converters.to_tflite import TfliteConverter
from pipcook_deploy.errors import ConversionError, SourceError
from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.runtimes.tensorflow_runtime import TensorFlowRuntime
from pipcook_deploy.sources.graph_sources import load_saved_model
from tests import keras_made, zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras 3
]
WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def rows(seed: int = 0, count: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def answers(model, inputs, tmp: Path, formats=("saved_model", "onnx", "tflite")):
    """What each artifact says."""
    made = {
        "saved_model": (SavedModelConverter, TensorFlowRuntime),
        "onnx": (OnnxConverter, OnnxRuntime),
        "tflite": (TfliteConverter, LiteRtRuntime),
    }
    found = {}
    for name in formats:
        (tmp / name).mkdir()
        converter, runtime = made[name]
        artifact = converter().convert(model, tmp / name)
        found[name] = artifact, runtime().run_artifact(artifact, inputs)
    return found


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """serving_default: x -> scores; second: x, y -> total, apart."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = weights = tf.Variable(WEIGHTS)
    spec = tf.TensorSpec((None, 4), tf.float32)

    @tf.function(input_signature=[spec])
    def first(x):
        return {"scores": tf.nn.softmax(x @ weights)}

    @tf.function(input_signature=[spec, spec])
    def second(x, y):
        return {"total": x @ weights + y @ weights, "apart": x @ weights - y @ weights}

    folder = tmp_path_factory.mktemp("several")
    tf.saved_model.save(
        module, str(folder / "both"), signatures={"serving_default": first, "second": second}
    )
    tf.saved_model.save(module, str(folder / "one"), signatures={"predict": second})
    return folder


@pytest.mark.parametrize(("name", "signature"), [("both", "second"), ("one", None)])
def test_the_chosen_signature_is_converted_and_all_are_kept(name, signature, several, tmp_path):
    import tensorflow as tf

    model = load_saved_model(several / name, False, signature)
    x, y = rows(1), rows(2)
    found = answers(model, {"x": x, "y": y}, tmp_path)
    for artifact, results in found.values():
        assert results.keys() == {"total", "apart"}
        np.testing.assert_allclose(results["total"], (x + y) @ WEIGHTS, atol=1e-5)
        np.testing.assert_allclose(results["apart"], (x - y) @ WEIGHTS, atol=1e-5)
        assert {b.tensor for b in artifact.inputs} == {"x", "y"}
    kept = found["saved_model"][0]
    assert kept.details["signature"] == model.signature
    names = {"both": {"second", "serving_default"}, "one": {"predict"}}[name]
    assert set(tf.saved_model.load(str(kept.path)).signatures) == names


def test_the_stage_hands_the_signature_on(several, tmp_path):
    formats = ("saved_model", "onnx")
    bundle = deploy(several / "both", to=formats, out=tmp_path / "b", signature="second")
    assert {a.format: len(a.outputs) for a in bundle.manifest.artifacts} == dict.fromkeys(
        formats, 2
    )


def test_several_signatures_without_a_default_need_a_choice(several):
    model = load_saved_model(several / "both", False, None)
    with pytest.raises(SourceError, match="no signature 'third'") as error:
        TensorFlowRuntime().run_model(replace(model, signature="third"), {"x": rows()})
    assert "second|serving_default" in error.value.hint


@pytest.fixture(scope="module")
def version_one(tmp_path_factory) -> Path:
    """A graph of TensorFlow 1; keys that Python cannot have, in another order than the tensors'."""
    import tensorflow as tf

    v1 = tf.compat.v1
    folder = tmp_path_factory.mktemp("v1") / "model"
    with tf.Graph().as_default():
        last, first = (v1.placeholder(tf.float32, (None, 4), name=name) for name in ("zz", "aa"))
        weights = v1.get_variable("w", initializer=WEIGHTS, use_resource=True)
        result = tf.tanh((last * 2 - first) @ weights)
        info = v1.saved_model.utils.build_tensor_info
        signature = v1.saved_model.signature_def_utils.build_signature_def(
            {"a/b:0": info(last), "class": info(first)},
            {"1x": info(result), "same:0": info(result)},
            "tensorflow/serving/predict",
        )
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
            builder.save()
    return folder


@pytest.mark.filterwarnings("ignore:.*build_tensor_info:DeprecationWarning")
def test_names_that_python_cannot_have(version_one, tmp_path):
    model = load_saved_model(version_one, False, None)
    x, y = rows(3), rows(4)
    expected = np.tanh((2 * x - y) @ WEIGHTS)
    found = answers(model, {"a/b:0": x, "class": y}, tmp_path)
    for _, results in found.values():
        assert results.keys() == {"1x", "same:0"}
        for value in results.values():
            np.testing.assert_allclose(value, expected, atol=1e-5)
    onnx = found["onnx"][0]
    assert [b.tensor for b in (*onnx.inputs, *onnx.outputs)] == ["a/b:0", "class", "1x", "same:0"]


@pytest.mark.parametrize("name", ["1x", "a-b", "input.1"])
def test_a_name_that_tensorflow_changes_while_saving(name, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    function = tf.function(lambda t: {"y/0": t @ tf.constant(WEIGHTS)})
    concrete = function.get_concrete_function(tf.TensorSpec((None, 4), tf.float32, name=name))
    tf.saved_model.save(module, str(tmp_path / "source"), signatures=concrete)
    model = load_saved_model(tmp_path / "source", False, None)
    assert [spec.name for spec in model.spec.inputs] == [name]
    x = rows()
    for _, results in answers(model, {name: x}, tmp_path).values():
        np.testing.assert_allclose(results["y/0"], x @ WEIGHTS, atol=1e-5)


@pytest.mark.parametrize("name", ["class", "a/b"])
def test_a_keras_input_of_any_name(name, tmp_path):
    """The exported SavedModel is served under the name, and TensorFlow itself can open it."""
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    odd = keras.Input((4,), name="plain")
    live = keras.Model(odd, keras.layers.Dense(3, name="out")(odd))
    one = keras_made.save(live, tmp_path)
    spec = one.model.spec.inputs[0].model_copy(update={"name": name})
    model = one.model.with_spec(inputs=[spec.model_dump()])
    artifact = SavedModelConverter().convert(model, _folder(tmp_path / "sm"))
    near = {name: one.inputs["plain"]}
    results = TensorFlowRuntime().run_artifact(artifact, near)
    assert keras_made.largest_difference(results, one.outputs) < 1e-6
    assert [s.name for s in load_saved_model(artifact.path, False, None).spec.inputs] == [name]
    assert "serving_default" in tf.saved_model.load(str(artifact.path)).signatures


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def text_source(tmp_path_factory) -> Path:
    """Words by a table, and upper case: what ONNX has, and what TFLite has not."""
    import tensorflow as tf

    keys, values = tf.constant(["cat", "dog"]), tf.constant([1, 2], tf.int64)

    class Words(tf.Module):
        def __init__(self):
            super().__init__()
            initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
            self.table = tf.lookup.StaticHashTable(initializer, 0)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
        def serve(self, text):
            scores = tf.gather(tf.constant(WEIGHTS), self.table.lookup(text))
            return {"scores": scores, "loud": tf.strings.upper(text)}

    module = Words()
    folder = tmp_path_factory.mktemp("text") / "words"
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


def test_text_goes_through_the_stage(text_source, tmp_path):
    np.save(tmp_path / "texts.npy", np.array(["cat", "dog", "löwe", ""]))
    options = {"to": ("saved_model", "onnx"), "samples": tmp_path / "texts.npy"}
    bundle = deploy(text_source, out=tmp_path / "bundle", **options)
    rows = [row for a in bundle.manifest.artifacts for row in a.verification]
    judged = [row.status for row in rows if row.runtime != "openvino"]  # it takes no text
    assert judged == ["passed"] * 2
    outputs = OnnxRuntime().run_artifact(
        bundle.artifact("onnx"), {"text": np.array(["dog", "löwe"], object)}
    )
    np.testing.assert_array_equal(outputs["scores"], WEIGHTS[[2, 0]])
    assert list(outputs["loud"]) == ["DOG", "LöWE"]  # TensorFlow leaves what is not ASCII


def test_text_operators_that_tflite_lacks_are_named(text_source, tmp_path):
    with opened(text_source) as model, pytest.raises(ConversionError, match="StringUpper"):
        TfliteConverter().convert(model, tmp_path)


@pytest.mark.parametrize(("name", "keras_version"), [("gru", 3), ("lstm_mask", 3), ("multi_io", 2)])
def test_what_keras_exported_itself(name, keras_version, tmp_path):
    """Loops are written out for TFLite; the batch stays dynamic."""
    live = zoo.ZOO[name]() if keras_version == 3 else zoo.legacy(name)
    inputs = zoo.sample_inputs(live, 3)
    expected = zoo.outputs_of(live, inputs)
    if keras_version == 3:
        live.export(tmp_path / "source", verbose=False)
    else:
        live.save(tmp_path / "source", save_format="tf")
    model = load_saved_model(tmp_path / "source", False, None)
    if len(inputs) == 1:  # Keras 3 names inputs after tensors
        inputs = {model.spec.inputs[0].name: next(iter(inputs.values()))}
    found = answers(model, inputs, tmp_path, ("tflite", "onnx"))
    for _, results in found.values():
        by_width = {value.shape[-1]: value for value in results.values()}
        for value in expected:
            np.testing.assert_allclose(by_width[value.shape[-1]], value, atol=1e-5)


def test_labels_come_from_an_asset_and_go_into_one(several, tmp_path):
    model = load_saved_model(several / "both", False, None).with_spec(labels=("a", "b", "c d"))
    artifact = SavedModelConverter().convert(model, _folder(tmp_path / "sm"))
    again = load_saved_model(artifact.path, False, None)
    assert again.spec.labels == ("a", "b", "c d")
    other = SavedModelConverter().convert(
        again.with_spec(labels=("x", "y", "z")), _folder(tmp_path / "o")
    )
    assert load_saved_model(other.path, False, None).spec.labels == ("x", "y", "z")


@pytest.mark.node
@pytest.mark.filterwarnings("ignore:.*build_tensor_info:DeprecationWarning")
def test_odd_names_and_outputs_that_are_one_tensor_in_tfjs(version_one, tmp_path):
    bundle = deploy(version_one, to=("tfjs",), out=tmp_path / "bundle")
    (artifact,) = bundle.manifest.artifacts
    assert {b.name for b in artifact.outputs} == {"1x", "same:0"}
    assert {row.status for row in artifact.verification} == {"passed"}
