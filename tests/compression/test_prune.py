"""Pruning: both engines, patterns, care, fine-tuning, and what is measured in the saved model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.masks import (
    layer_sparsities,
    magnitude_mask,
    polynomial,
    two_of_four,
)
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.prune import Prune
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from tests import keras_made, zoo
from tests.compression.made_split import make_split

keras_noise = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning"),
]


def heavy(test: Any) -> Any:
    for mark in keras_noise:
        test = mark(test)
    return test


def test_a_mask_drops_exactly_the_smallest():
    weights = np.array([[3.0, -1.0, 0.5], [-4.0, 2.0, 0.0]])
    assert magnitude_mask(weights, 0.5).tolist() == [[True, False, False], [True, True, False]]
    assert magnitude_mask(np.ones(10), 0.3).sum() == 7  # equal weights: the number is kept to


def test_two_of_four_holds_along_the_axis_and_keeps_the_larger():
    weights = np.random.default_rng(0).normal(size=(3, 3, 10, 6))
    mask = two_of_four(weights, axis=2)
    fours = np.moveaxis(mask, 2, -1)[..., :8].reshape(-1, 4)
    assert (fours.sum(axis=-1) == 2).all()
    assert mask[:, :, 8:].all()  # the rest of the axis makes no four
    kept = np.moveaxis(np.abs(weights), 2, -1)[..., :8].reshape(-1, 4)
    assert (np.where(fours, kept, np.inf).min(-1) >= np.where(fours, 0, kept).max(-1)).all()


def test_one_threshold_for_all_does_not_depend_on_the_scale_of_a_layer():
    random = np.random.default_rng(0)
    kernels = {"even": random.normal(size=400), "tailed": random.standard_t(2, size=1600)}
    found = layer_sparsities(kernels, 0.7)
    assert (400 * found["even"] + 1600 * found["tailed"]) / 2000 == pytest.approx(0.7, abs=1e-3)
    assert found["tailed"] > found["even"]  # its large weights carry more of it
    assert layer_sparsities({**kernels, "even": 1000 * kernels["even"]}, 0.7) == found


def test_the_polynomial_schedule_starts_and_ends_where_it_should():
    assert polynomial(0, 10, 0.1, 0.8) == pytest.approx(0.1)
    assert polynomial(10, 10, 0.1, 0.8) == polynomial(99, 10, 0.1, 0.8) == pytest.approx(0.8)
    assert polynomial(2, 10, 0, 1) > 0.2  # fast at first


@heavy
@pytest.mark.parametrize("name", zoo.SMALL)
def test_kernels_are_found_and_named_alike_in_both_generations(name: str):
    from pipcook_deploy.keras_rebuild import rebuild

    live = zoo.ZOO[name]()
    found = [(k.name, k.kind, k.shape, k.care) for k in kernels(live)]
    matrices = [w for w in live.weights if len(w.shape) >= 2 and "bias" not in w.name]
    assert sum(k.size for k in kernels(live)) == sum(int(np.prod(w.shape)) for w in matrices)
    assert [(k.name, k.kind, k.shape, k.care) for k in kernels(rebuild(live))] == found


@heavy
def test_nested_models_and_wrappers_have_paths():
    import keras

    block = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")], name="block")
    x = image = keras.Input((5, 4), name="x")
    x = keras.layers.TimeDistributed(block, name="each")(x)
    x = keras.layers.Bidirectional(keras.layers.GRU(2, name="gru"), name="both")(x)
    live = keras.Model(image, keras.layers.Dense(1, name="end")(x))
    assert [k.name for k in kernels(live)] == [
        "each/block/d/kernel",
        "both/forward_gru/kernel",
        "both/forward_gru/recurrent_kernel",
        "both/backward_gru/kernel",
        "both/backward_gru/recurrent_kernel",
        "end/kernel",
    ]


@pytest.fixture
def cnn(tmp_path: Path) -> Model:
    folder = tmp_path / "source"
    folder.mkdir()
    return keras_made.save(zoo.cnn(), folder).model


@heavy
def test_ends_and_depthwise_kernels_are_spared_unless_told_otherwise(cnn: Model, tmp_path: Path):
    result = _apply(Prune(sparsity=0.8), cnn, tmp_path / "a")
    layers = _sparsities(result)
    assert layers["depthwise/kernel"] == layers["separable/depthwise_kernel"] == 0
    assert [layers["conv/kernel"], layers["label/kernel"]] == pytest.approx([0.4, 0.4], abs=0.02)
    sizes = {k.name: k.size for k in kernels(load_keras(result.model)) if k.care is None}
    plain = sum(layers[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert plain == pytest.approx(0.8, abs=0.01)
    everything = Prune(sparsity=0.8, scope="layer", careful={})
    assert all(s == pytest.approx(0.8, abs=0.03) for s in _of(everything, cnn, tmp_path).values())


@heavy
def test_sparsity_by_name_is_exact_and_a_wrong_name_is_told(cnn: Model, tmp_path: Path):
    layers = _of(Prune(sparsity={"conv/*": 0.25, "tr*": 0.9}), cnn, tmp_path)
    assert layers["conv/kernel"] == 0.25
    assert layers["transpose/kernel"] == pytest.approx(0.9, abs=1e-3)
    assert {layers["label/kernel"], layers["depthwise/kernel"]} == {0.0}
    with pytest.raises(CompressionError, match="no kernel is called 'konv'"):
        _of(Prune(sparsity={"konv": 0.5}), cnn, tmp_path / "x")


@heavy
def test_two_of_four_leaves_what_has_too_few_channels(cnn: Model, tmp_path: Path):
    result = _apply(Prune(pattern="2:4", careful={}), cnn, tmp_path / "a")
    by_name = {k.name: k.get() for k in kernels(load_keras(result.model))}
    fours = np.moveaxis(by_name["transpose/kernel"], -1, -1).reshape(-1, 4)  # [h, w, out, in]
    assert ((fours != 0).sum(axis=-1) == 2).all()
    assert "conv/kernel: left alone, fewer than four input channels" in result.details["notes"]
    assert (by_name["conv/kernel"] != 0).all()


@heavy
def test_both_engines_reach_the_same_sparsity(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    made = keras_made.save(zoo.legacy("mlp"), source)
    split = _split(made.model, tmp_path / "train")
    options = {"sparsity": 0.7, "scope": "layer", "epochs": 2, "batch": 16, "careful": {}}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Workers(scratch) as workers:
        results = {
            engine: _call(workers, options | {"engine": engine}, made.model, split, tmp_path)
            for engine in ("auto", "own")
        }
        untrained = _call(workers, options | {"engine": "tfmot"}, made.model, None, tmp_path)
    assert results["auto"].details["engine"] == "tfmot"
    assert results["own"].details["engine"] == "own"
    wanted = {"dense_1/kernel": 0.7, "dense_2/kernel": 0.7, "probabilities/kernel": 0.7}
    for result in (*results.values(), untrained):
        live = {k.name: float((k.get() == 0).mean()) for k in kernels(load_keras(result.model))}
        assert live == pytest.approx(wanted, abs=0.01)
        assert _sparsities(result) == pytest.approx(live, abs=1e-6)


@heavy
def test_a_keras_3_model_goes_through_tfmot_when_asked_and_stays_keras_3(tmp_path: Path):
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    source.mkdir()
    scratch.mkdir()
    made = keras_made.save(zoo.mlp(), source)
    options = {"sparsity": 0.5, "engine": "tfmot", "careful": {}, "scope": "layer"}
    with Workers(scratch) as workers:
        result = _call(workers, options, made.model, None, tmp_path)
    assert (result.model.format, result.details["engine"]) == ("keras", "tfmot")
    assert _sparsities(result)["dense_1/kernel"] == pytest.approx(0.5, abs=0.01)
    assert load_keras(result.model).count_params() == load_keras(made.model).count_params()


@heavy
def test_tfmot_refuses_what_it_cannot_prune_by_layer(tmp_path: Path):
    made = keras_made.save(zoo.legacy("cnn"), tmp_path)
    with pytest.raises(CompressionError, match=r"depthwise/kernel \(DepthwiseConv2D\)"):
        Prune(engine="tfmot", careful={}).apply(made.model, tmp_path)


@heavy
def test_pruning_with_training_learns_the_source_again_and_repeats(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    made = keras_made.save(zoo.mlp(), source)
    split = _split(made.model, tmp_path / "train")
    alone = _apply(Prune(sparsity=0.6, careful={}), made.model, tmp_path / "alone")
    options = Prune(sparsity=0.6, careful={}, epochs=20, batch=32, learning_rate=5e-3)
    trained = _apply(options, made.model, tmp_path / "first", split)
    again = _apply(options, made.model, tmp_path / "again", split)
    assert trained.details["sparsity"] == pytest.approx(0.6, abs=0.01)
    assert trained.model.path.read_bytes() == again.model.path.read_bytes()
    wanted = _answers(made.model, split)
    before = float(np.square(_answers(alone.model, split) - wanted).mean())
    assert float(np.square(_answers(trained.model, split) - wanted).mean()) < before / 2


def _of(options: Prune, model: Model, folder: Path) -> dict[str, float]:
    return _sparsities(_apply(options, model, folder / "into"))


def _apply(options: Prune, model: Model, into: Path, train: Split | None = None) -> PassResult:
    into.mkdir(parents=True)
    return options.apply(model, into, train)


def _sparsities(result: PassResult) -> dict[str, float]:
    layers: Any = result.details["layers"]
    return {name: row["sparsity"] for name, row in layers.items()}


def _split(model: Model, folder: Path) -> Split:
    """Inputs without a truth: all there is to learn is the source."""
    live = load_keras(model)
    return make_split(folder, zoo.sample_inputs(live, 256), None)


def _answers(model: Model, split: Split) -> Any:
    live = load_keras(model)
    return np.asarray(live(np.asarray(next(iter(split.inputs().values()))), training=False))


def _call(
    workers: Workers, options: dict[str, Any], model: Model, split: Split | None, folder: Path
) -> PassResult:
    number = len(list(folder.iterdir()))
    into = folder / f"into-{number}"
    into.mkdir()
    arguments = {
        "name": "prune",
        "options": options,
        "model": model.to_json(),
        "into": str(into),
        "train": None if split is None else split.to_json(),
    }
    call = "tests.compression.apply_pass:apply_pass"
    return PassResult.from_json(workers.call(call, arguments, heavy=True))
