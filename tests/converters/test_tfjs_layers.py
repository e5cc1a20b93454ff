from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.tfjs.layers_check import check_layer
from pipcook_deploy.converters.tfjs.layers_writer import write_layers
from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import read_model
from pipcook_deploy.formats.tfjs_weights import Storage
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.tfjs_node import TfjsNodeRuntime
from tests import keras_made, tfjs_made, zoo

# What Keras says of itself under NumPy 2, and of the applications' input structure.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]


def convert(model: Model, into: Path, precision: str = "float32") -> Artifact:
    into.mkdir()
    return write_layers(
        model,
        into,
        precision=precision,
        precision_of=lambda name, rank: Storage(precision if rank >= 2 else "float32"),
        shard_size=1 << 20,
    )


def nested() -> Any:
    """Models in models: a functional and a Sequential one, the latter used twice, one layer shared."""
    import keras as k

    k.backend.clear_session()
    k.utils.set_random_seed(1)
    row = k.Input((6,), name="row")
    inner = k.Model(row, k.layers.Dense(5, activation="silu", name="deep")(row), name="inner")
    halves = k.Sequential([k.Input((5,)), k.layers.Dense(4, name="half")], name="halves")
    a, b = k.Input((6,), name="a"), k.Input((6,), name="b")
    left, right = halves(inner(a)), halves(inner(b))
    x = k.layers.Concatenate(name="joined")([left * 2.0, k.layers.LeakyReLU(0.2)(right + 1.0)])
    x = k.layers.Reshape((2, 4), name="rows")(x)
    x = k.layers.TimeDistributed(k.layers.Dense(3, name="each"), name="times")(x)
    x = k.layers.Activation("gelu", name="gelu")(x)
    return k.Model({"b": b, "a": a}, {"z": x, "y": left}, name="nested")


@pytest.mark.heavy
@pytest.mark.node
@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "lstm_mask", "multi_io", "mobilenet_v2"])
def test_keras_3_answers_the_same_in_tfjs(tmp_path: Path, name: str) -> None:
    made = keras_made.save(zoo.ZOO[name](), tmp_path)
    artifact = convert(made.model, tmp_path / "out")
    found = TfjsNodeRuntime("wasm").run_artifact(artifact, made.inputs)
    assert keras_made.largest_difference(found, made.outputs) < 1e-5


@pytest.mark.heavy
@pytest.mark.node
@pytest.mark.parametrize("name", ["cnn", "lstm", "multi_io"])
def test_keras_2_answers_the_same_in_tfjs(tmp_path: Path, name: str) -> None:
    made = keras_made.save(zoo.legacy(name), tmp_path)
    artifact = convert(made.model, tmp_path / "out")
    found = TfjsNodeRuntime("cpu").run_artifact(artifact, made.inputs)
    assert keras_made.largest_difference(found, made.outputs) < 1e-5


@pytest.mark.heavy
@pytest.mark.node
def test_nested_and_shared_models_with_operations_answer_the_same(tmp_path: Path) -> None:
    made = keras_made.save(nested(), tmp_path)
    artifact = convert(made.model, tmp_path / "out")
    found = TfjsNodeRuntime("cpu").run_artifact(artifact, made.inputs)
    assert keras_made.largest_difference(found, made.outputs) < 1e-5


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gru", r"'gru' \(GRU\).*reset_after"),
        ("transformer", r"'attention' \(MultiHeadAttention\)"),
        ("mobilenet_v3_small", "hard_silu"),
        ("efficientnet_b0", r"'normalization' \(Normalization\)"),
    ],
)
def test_what_tfjs_lacks_is_refused_by_name_before_writing(
    tmp_path: Path, name: str, message: str
) -> None:
    made = keras_made.save(zoo.ZOO[name](), tmp_path)
    with pytest.raises(UnsupportedConversionError, match=message) as raised:
        convert(made.model, tmp_path / "out")
    assert "tfjs.kind=graph" in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.heavy
@pytest.mark.parametrize("wrap", [lambda k, x: x, lambda k, x: k.layers.TimeDistributed(x)])
def test_hard_sigmoid_of_keras_3_is_refused_also_in_wrappers(
    tmp_path: Path, wrap: Callable[..., Any]
) -> None:
    import keras

    layer = wrap(keras, keras.layers.Dense(2, activation="hard_sigmoid", name="hard"))
    live = keras.Sequential([keras.Input((3, 4), name="x"), layer], name="model")
    made = keras_made.save(live, tmp_path)
    with pytest.raises(UnsupportedConversionError, match=r"'hard'.*hard_sigmoid"):
        convert(made.model, tmp_path / "out")


@pytest.mark.parametrize(
    ("class_name", "options"),
    [
        ("Lambda", {}),
        ("Subtract", {}),
        ("Dense", {"activation": "exponential"}),
        ("Conv2D", {"groups": 2}),
        ("ReLU", {"negative_slope": 0.1}),
        ("UpSampling2D", {"interpolation": "bilinear"}),
        ("GlobalAveragePooling2D", {"keepdims": True}),
        ("Rescaling", {"scale": [1, 2]}),
        ("GRUCell", {"reset_after": True}),
    ],
)
def test_layers_and_options_that_tfjs_lacks(class_name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConversionError, match=rf"'odd' \({class_name}\)"):
        check_layer(class_name, {"name": "odd", **options})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tfjs_made.make_all(tmp_path_factory.mktemp("made"))


@pytest.mark.node
@pytest.mark.parametrize("name", tfjs_made.NAMES)
def test_the_weights_keep_their_bytes(source: Path, tmp_path: Path, name: str) -> None:
    model = tfjs_made.model(source / name)
    first = convert(model, tmp_path / "first")
    stored = b"".join(file.read_bytes() for file in read_model(first.file).files)
    assert stored == (source / name / "weights.bin").read_bytes()
    inputs = tfjs_made.tensors(source / name, "inputs")
    found = TfjsNodeRuntime("wasm").run_artifact(first, inputs)
    expected = tfjs_made.tensors(source / name, "outputs")
    assert keras_made.largest_difference(found, expected) < 1e-6
    again = convert(Model(first.file, "tfjs_layers", model.spec), tmp_path / "again")
    assert [f.read_bytes() for f in sorted(again.path.iterdir())] == [
        f.read_bytes() for f in sorted(first.path.iterdir())
    ]


@pytest.mark.node
def test_smaller_weights_are_not_widened_again(source: Path, tmp_path: Path) -> None:
    model = tfjs_made.model(source / "nested")
    small = convert(model, tmp_path / "small", "uint8")
    kept = convert(Model(small.file, "tfjs_layers", model.spec), tmp_path / "kept")
    for one, other in zip(read_model(small.file).specs, read_model(kept.file).specs, strict=True):
        assert one == other
    sizes = [sum(f.stat().st_size for f in read_model(a.file).files) for a in (small, kept)]
    assert sizes[0] == sizes[1] < (source / "nested" / "weights.bin").stat().st_size / 2
    found = TfjsNodeRuntime("wasm").run_artifact(
        kept, tfjs_made.tensors(source / "nested", "inputs")
    )
    expected = tfjs_made.tensors(source / "nested", "outputs")
    assert 0 < keras_made.largest_difference(found, expected) < 0.05
