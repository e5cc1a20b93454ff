from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.converters.to_keras_h5 import KerasH5Converter
from pipcook_deploy.errors import ConversionError, UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import read_model, write_model
from pipcook_deploy.formats.tfjs_weights import Weight
from pipcook_deploy.keras_rebuild import rebuild
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec
from tests import keras_made, tfjs_made, zoo

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tfjs_made.make_all(tmp_path_factory.mktemp("made"))


def opened(file: Path, inputs: Tensors) -> list[np.ndarray]:
    import tf_keras

    live = tf_keras.models.load_model(file, compile=False)
    assert [t.name for t in live.inputs] == list(inputs) or len(inputs) == 1
    values: Any = list(inputs.values())
    result = live(values if len(values) > 1 else values[0])
    return [np.asarray(v) for v in (result if isinstance(result, list) else [result])]


@pytest.mark.node
@pytest.mark.parametrize("name", tfjs_made.NAMES)
def test_models_made_in_tfjs_answer_the_same_in_keras(
    made: Path, tmp_path: Path, name: str
) -> None:
    artifact = KerasH5Converter().convert(tfjs_made.model(made / name), tmp_path)
    found = opened(artifact.file, tfjs_made.tensors(made / name, "inputs"))
    expected = tfjs_made.tensors(made / name, "outputs").values()
    for value, answer in zip(expected, found, strict=True):
        np.testing.assert_allclose(answer, value, atol=1e-6)


@pytest.mark.node
def test_weights_of_another_model_are_refused(made: Path, tmp_path: Path) -> None:
    source = read_model(made / "text" / "model.json")
    for weights, message in (
        (list(source.weights)[1:], "without a value: embedding"),
        ([*source.weights, "more/kernel"], "without a layer: more/kernel"),
    ):
        values = {**source.weights, "more/kernel": np.zeros(1, np.float32)}
        write_model(
            tmp_path,
            model_format="tfjs_layers",
            topology=source.topology,
            weights=[Weight(name, values[name]) for name in weights],
            generated_by="test",
        )
        spec = tfjs_made.model(made / "text").spec
        with pytest.raises(ConversionError, match=message):
            KerasH5Converter().convert(
                Model(tmp_path / "model.json", "tfjs_layers", spec), tmp_path
            )


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "Lambda", "config": {"name": "x", "function": ["code", None, None]}},
        {"class_name": "Popen", "module": "subprocess", "config": {"args": ["touch", "MARK"]}},
        {
            "class_name": "Activation",
            "config": {"name": "x", "activation": {"class_name": "__lambda__", "config": {}}},
        },
        {
            "class_name": "Activation",
            "config": {"name": "x", "activation": {"module": "os", "config": "system"}},
        },
    ],
)
def test_a_layers_model_cannot_name_python(tmp_path: Path, layer: dict[str, Any]) -> None:
    first = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 2], "name": "i"}}
    write_model(
        tmp_path,
        model_format="tfjs_layers",
        topology={"class_name": "Sequential", "config": {"name": "m", "layers": [first, layer]}},
        weights=[],
        generated_by="test",
    )
    with pytest.raises(UnsupportedConversionError):
        KerasH5Converter().convert(
            Model(tmp_path / "model.json", "tfjs_layers", ModelSpec()), tmp_path
        )


def test_keras_3_becomes_keras_2(tmp_path: Path) -> None:
    made = keras_made.save(zoo.lstm_mask(), tmp_path)
    artifact = KerasH5Converter().convert(made.model, tmp_path)
    for value, answer in zip(
        made.outputs.values(), opened(artifact.file, made.inputs), strict=True
    ):
        np.testing.assert_allclose(answer, value, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "lstm", "gru", "transformer", "multi_io"])
def test_rebuilt_models_answer_the_same(name: str) -> None:
    live = zoo.ZOO[name]()
    inputs = zoo.sample_inputs(live, 3)
    pairs = zip(zoo.outputs_of(live, inputs), zoo.outputs_of(rebuild(live), inputs), strict=True)
    assert max(float(np.abs(a - b).max()) for a, b in pairs) < 1e-6


@pytest.mark.parametrize("name", ["hard_sigmoid", "hard_silu", "silu", "gelu", "leaky_relu"])
def test_activations_of_keras_3_keep_their_meaning(name: str) -> None:
    import keras

    live = keras.Sequential([keras.Input((9,), name="x"), keras.layers.Activation(name)])
    values = np.linspace(-5, 5, 18, dtype=np.float32).reshape(2, 9)
    found = np.asarray(rebuild(live)(values))
    np.testing.assert_allclose(found, np.asarray(live(values)), atol=1e-6)
