"""Training again: what is learned, what is held, and what is refused. And a rung of the ladder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.compression.batches import shuffled
from pipcook_deploy.compression.finetune import Training, fine_tune
from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.ladder import climb
from pipcook_deploy.compression.losses import kind_of
from pipcook_deploy.compression.model_pass import PassResult
from pipcook_deploy.compression.prune import Prune
from pipcook_deploy.compression.teacher import Teacher
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import load_keras
from tests import keras_made, zoo
from tests.compression.made_split import make_split


def _heavy(test: Any) -> Any:
    for name in ("__array__ implementation:DeprecationWarning", "(?s).*HDF5 file:UserWarning"):
        test = pytest.mark.filterwarnings(f"ignore:{name}")(test)
    test = pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning")(test)
    return pytest.mark.heavy(test)


def test_outputs_are_told_by_their_values():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20, 4)) * 3
    shares = random.random((20, 4))
    labels = random.integers(0, 4, 20)
    assert kind_of(shares / shares.sum(-1, keepdims=True)) == "probabilities"
    assert kind_of(shares) == kind_of(shares[:, :1]) == "shares"
    assert kind_of(logits) == kind_of(logits, logits) == "numbers"
    assert kind_of(logits, labels) == "logits"


def test_an_epoch_has_every_sample_once_in_the_order_of_the_seed():
    first = [*shuffled(20, 5, 8, seed=3)]
    assert sorted(np.concatenate(first[:4]).tolist()) == list(range(20))
    assert not np.array_equal(first[0], first[4])
    assert np.array_equal(first, [*shuffled(20, 5, 8, seed=3)])
    assert not np.array_equal(first, [*shuffled(20, 5, 8, seed=4)])


@_heavy
@pytest.mark.parametrize(
    ("generation", "name"),
    [("keras", "multi_io"), ("keras", "gru"), ("tf_keras", "mlp"), ("tf_keras", "multi_io")],
)
def test_a_disturbed_model_learns_its_source_again(generation: str, name: str, tmp_path: Path):
    live = zoo.ZOO[name]() if generation == "keras" else zoo.legacy(name)
    made = keras_made.save(live, tmp_path)
    split = make_split(tmp_path / "train", zoo.sample_inputs(live, 64), None)
    disturbed = load_keras(made.model)
    random = np.random.default_rng(0)
    held = {}
    for kernel in kernels(disturbed):
        value = kernel.get()
        mask = random.random(value.shape) > 0.2
        kernel.set(value * mask)
        held[kernel.name] = mask
    losses = fine_tune(
        disturbed,
        split,
        Training(epochs=20, learning_rate=3e-3, batch=32),
        model=made.model,
        masks=held,
        teacher=load_keras(made.model),
    )
    assert losses[-1] < 0.6 * losses[0]
    assert all((k.get()[~held[k.name]] == 0).all() for k in kernels(disturbed))
    assert any((k.get()[held[k.name]] != 0).all() for k in kernels(disturbed))


@_heavy
def test_targets_alone_are_enough_and_without_them_a_source_is_needed(tmp_path: Path):
    live = zoo.mlp()
    made = keras_made.save(live, tmp_path)
    inputs = zoo.sample_inputs(live, 128)
    truth = (inputs["features"][:, 0] > inputs["features"][:, 1]).astype(np.int64)
    split = make_split(tmp_path / "train", inputs, truth)
    losses = fine_tune(live, split, Training(epochs=30, learning_rate=1e-2, batch=32))
    assert losses[-1] < losses[0] / 2
    answers = np.asarray(live(inputs["features"], training=False)).argmax(-1)
    assert (answers == truth).mean() > 0.85
    unlabelled = make_split(tmp_path / "bare", inputs, None)
    with pytest.raises(CompressionError, match="nobody said what is right"):
        fine_tune(load_keras(made.model), unlabelled, Training(epochs=1))
    with pytest.raises(CompressionError, match="set a smaller learning_rate"):
        fine_tune(load_keras(made.model), split, Training(epochs=5, learning_rate=3e38))


@_heavy
def test_the_sources_answers_are_computed_once_and_kept(tmp_path: Path):
    made = keras_made.save(zoo.mlp(), tmp_path)
    live = load_keras(made.model)
    split = make_split(tmp_path / "train", zoo.sample_inputs(live, 40), None)
    index = np.arange(3, 30)
    first = Teacher.of(live, made.model, split, tmp_path / "cache")
    answers = first.answers(index)[0]
    first.keep()
    for variable in live.trainable_variables:
        variable.assign(variable * 0)
    again = Teacher.of(live, made.model, split, tmp_path / "cache")
    assert np.array_equal(again.answers(index)[0], answers)
    assert not np.array_equal(again.answers(np.arange(27))[0], answers)  # one was not known yet


@_heavy
def test_rungs_follow_each_other(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    made = keras_made.save(zoo.mlp(), source)
    inputs = zoo.sample_inputs(load_keras(made.model), 256)
    split = make_split(tmp_path / "train", inputs, None)
    rungs = [{"dense_1/kernel": 0.4, "dense_2/kernel": 0.2}, {"dense_*": 0.8}]
    model, masks = made.model.to_json(), []
    for number, sparsity in enumerate(rungs):
        result = _rung(made.model.to_json(), model, split, sparsity, tmp_path / str(number))
        layers: Any = result.details["layers"]
        found = load_keras(result.model)
        masks.append({k.name: k.get() == 0 for k in kernels(found)})
        assert layers["probabilities/kernel"]["sparsity"] == 0
        model = result.model.to_json()
    assert float(masks[0]["dense_1/kernel"].mean()) == pytest.approx(0.4, abs=0.01)
    assert float(masks[1]["dense_2/kernel"].mean()) == pytest.approx(0.8, abs=0.01)
    assert masks[1]["dense_1/kernel"][masks[0]["dense_1/kernel"]].all()  # zeros stay zeros
    alone = tmp_path / "alone"
    alone.mkdir()
    untrained = Prune(sparsity={"dense_*": 0.8}).apply(made.model, alone)
    wanted = _answers(made.model, inputs)
    before = np.square(_answers(untrained.model, inputs) - wanted).mean()
    assert np.square(_answers(result.model, inputs) - wanted).mean() < before / 2


def _rung(
    source: Any, model: Any, split: Split, sparsity: dict[str, float], into: Path
) -> PassResult:
    into.mkdir()
    train = split.to_json()
    return PassResult.from_json(climb(source, model, train, sparsity, 20, 5e-3, 32, 0, str(into)))


def _answers(model: Any, inputs: Any) -> np.ndarray:
    return np.asarray(load_keras(model)(inputs["features"], training=False))
