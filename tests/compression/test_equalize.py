"""Equalization: the function stays, channels get even, and one scale a kernel is enough again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.compression.equalize import Equalize
from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.sensitivity import measure
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.spec import ModelSpec
from tests import keras_made, zoo
from tests.compression.made_split import make_split

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning"),
]


def _collapsed(k: Any) -> Any:
    """Convolutions whose channels were scaled by powers of two, undone by what reads them."""
    x = image = k.Input((8, 8, 3), name="image")
    x = k.layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    x = k.layers.BatchNormalization(name="norm_1")(x)
    x = k.layers.ReLU(name="relu_1")(x)
    x = k.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = k.layers.BatchNormalization(name="norm_2")(x)
    x = k.layers.ReLU(name="relu_2")(x)
    x = k.layers.MaxPooling2D(name="pool")(x)
    x = k.layers.Conv2DTranspose(6, 2, activation="relu", name="transpose")(x)
    x = k.layers.Flatten(name="flatten")(x)
    x = k.layers.Dense(5, activation="relu", name="dense")(x)
    x = k.layers.Dense(4, activation="softmax", name="label")(x)
    model = zoo._perturbed(k.Model(image, x, name="collapsed"))
    layer = {x.name: x for x in model.layers}
    random = np.random.default_rng(0)
    first, second, third = (2.0 ** random.integers(-7, 8, n) for n in (8, 16, 6))
    gain = {"norm_1": first, "norm_2": second}
    for name, factors in gain.items():
        layer[name].gamma.assign(np.asarray(layer[name].gamma) * factors)
        layer[name].beta.assign(np.asarray(layer[name].beta) * factors)
    _times(layer["depthwise"], 1 / first[:, None])
    _times(layer["transpose"], (third[:, None] / second[None, :]), bias=third)
    own = 2.0 ** random.integers(-5, 6, 8)  # undone by the batch norm itself
    _times(layer["conv"], own)
    gamma, beta, mean, variance = layer["norm_1"].get_weights()
    variance = (variance + layer["norm_1"].epsilon) * own**2 - layer["norm_1"].epsilon
    layer["norm_1"].set_weights([gamma, beta, mean * own, np.maximum(variance, 0)])
    _times(layer["dense"], np.tile(1 / third, 25)[:, None])
    return model


def _times(layer: Any, factors: np.ndarray, bias: np.ndarray | None = None) -> None:
    kernel, *rest = layer.get_weights()
    layer.set_weights([kernel * factors, *(b if bias is None else b * bias for b in rest)])


@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_the_function_stays_and_one_scale_a_kernel_is_enough_again(generation: str, tmp_path: Path):
    import keras
    import tf_keras

    library = {"keras": keras, "tf_keras": tf_keras}[generation]
    library.utils.set_random_seed(0)
    made = keras_made.save(_collapsed(library), tmp_path)
    result = _apply(made.model, tmp_path)
    answers = _answers(result.model, made.inputs)
    assert keras_made.largest_difference(answers, made.outputs) <= 1e-5
    pairs: Any = result.details["pairs"]
    assert [(row["first"], row["second"]) for row in pairs] == [
        ("conv/kernel", "depthwise/kernel"),
        ("depthwise/kernel", "transpose/kernel"),
        ("transpose/kernel", "dense/kernel"),
        ("dense/kernel", "label/kernel"),
    ]
    uneven: Any = result.details["uneven"]
    even: Any = result.details["uneven_after"]
    assert uneven > 20
    assert even < 8
    raw = {k.name: k.get() for k in kernels(load_keras(result.model))}["conv/kernel"]
    ranges = np.abs(raw).max(axis=(0, 1, 2))
    assert ranges.max() / ranges.min() <= 2.01
    split = make_split(tmp_path / "split", made.inputs, None)
    damage = [
        {row["name"]: row["sensitivity"]["8 bits"] for row in rows}
        for rows in (
            measure(model.to_json(), split.to_json(), {"bits": [8]})
            for model in (made.model, result.model)
        )
    ]
    assert damage[1]["depthwise/kernel"] < damage[0]["depthwise/kernel"] / 20


def test_what_has_several_readers_or_caps_is_left_alone(tmp_path: Path):
    import keras

    k = keras.layers
    x = image = keras.Input((6,), name="x")
    x = k.Dense(4, activation="relu", name="a")(x)
    x = k.Dense(4, name="b")(k.ReLU(max_value=6.0, name="cap")(x))
    y = k.Dense(4, name="c")(x)
    x = k.Dense(2, activation="tanh", name="d")(k.Add(name="sum")([x, y]))
    made = keras_made.save(keras.Model(image, k.Dense(2, name="e")(x), name="m"), tmp_path)
    result = _apply(made.model, tmp_path)
    assert result.details["pairs"] == []
    notes = "\n".join(str(note) for note in [result.details["notes"]])
    assert "a: not balanced: cap (ReLU) does not keep scales" in notes
    assert "b: not balanced: what comes after it has several readers" in notes
    assert "d: not balanced: its activation tanh" in notes


@pytest.mark.parametrize("name", ["cnn", "multi_io"])
def test_models_of_the_zoo_answer_as_before(name: str, tmp_path: Path):
    made = keras_made.save(zoo.ZOO[name](), tmp_path)
    result = _apply(made.model, tmp_path)
    assert keras_made.largest_difference(_answers(result.model, made.inputs), made.outputs) <= 1e-6


def test_a_subclassed_model_is_refused(tmp_path: Path):
    import keras

    @keras.saving.register_keras_serializable("tests")
    class Own(keras.Model):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.dense = keras.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    live = Own()
    live(np.zeros((1, 3), "float32"))
    live.save(tmp_path / "own.keras")
    model = Model(tmp_path / "own.keras", "keras", ModelSpec(), trusted=True)
    with pytest.raises(CompressionError, match="only its own Python code"):
        _apply(model, tmp_path)


def _apply(model: Model, folder: Path) -> PassResult:
    into = folder / "into"
    into.mkdir()
    return Equalize().apply(model, into)


def _answers(model: Model, inputs: Any) -> Any:
    from pipcook_deploy.runtimes.tensorflow_runtime import TensorFlowRuntime

    return TensorFlowRuntime().run_model(model, inputs)
