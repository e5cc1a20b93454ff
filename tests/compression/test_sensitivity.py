"""What each kernel can spare: measured, and shared out."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.compression.allocation import allocate
from pipcook_deploy.compression.fake_quantize import fake_quantize
from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.sensitivity import measure
from pipcook_deploy.formats.tfjs_weights import Weight, decode, encode_one
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.report.entries import LayerEntry
from tests import keras_made, zoo
from tests.compression.made_split import make_split

KNOBS: dict[str, list[float]] = {"prune": [0.5, 0.9], "bits": [8, 3]}


def _heavy(test: Any) -> Any:
    for name in ("__array__ implementation:DeprecationWarning", "(?s).*HDF5 file:UserWarning"):
        test = pytest.mark.filterwarnings(f"ignore:{name}")(test)
    test = pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning")(test)
    return pytest.mark.heavy(test)


def test_eight_bits_are_those_of_the_file():
    random = np.random.default_rng(0)
    for value in (random.normal(size=(5, 7)), random.random((3, 4)) + 1, np.full((2, 2), 3.0)):
        weights = value.astype(np.float32)
        stored = encode_one(Weight("w", weights), "uint8")
        assert np.array_equal(fake_quantize(weights, 8), decode(stored.spec, stored.data))
    assert len(np.unique(fake_quantize(random.normal(size=999), 3))) <= 8


def _row(
    name: str, parameters: int, damage: list[float], care: str | None = None
) -> dict[str, Any]:
    curve = [[share, loss] for share, loss in zip([0.5, 0.7, 0.9], damage, strict=True)]
    return {"name": name, "parameters": parameters, "care": care, "damage": {"prune": curve}}


def test_the_total_is_reached_by_those_who_can_spare_it():
    rows = [
        _row("cheap", 6000, [0.001, 0.01, 0.1]),
        _row("dear", 6000, [0.1, 1.0, 4.0]),
        _row("depthwise", 500, [0.0, 0.0, 0.0], "depthwise"),
        _row("last", 500, [0.0, 0.0, 0.0], "last"),
    ]
    sizes = {row["name"]: row["parameters"] for row in rows}
    for target in (0.3, 0.5, 0.8):
        found = allocate(rows, target)
        total = sum(sizes[name] * share for name, share in found.items()) / sum(sizes.values())
        assert total == pytest.approx(target, abs=1e-3)
        assert found["cheap"] > found.get("dear", 0)
        assert found["last"] == pytest.approx(target / 2)
        assert "depthwise" not in found
        assert max(found.values()) <= 1 - (1 - target) / 4
    assert allocate(rows, 0.5, careful={})["depthwise"] == pytest.approx(0.5)
    everything = [_row("only", 100, [0, 0, 0], "first")]
    assert allocate(everything, 0.8) == {"only": 0.4}  # care comes before the total


def test_shares_grow_with_the_total():
    random = np.random.default_rng(0)
    rows = [
        _row(f"layer {n}", int(random.integers(10, 9999)), np.sort(random.random(3)).tolist())
        for n in range(8)
    ]
    steps = [allocate(rows, target) for target in (0.4, 0.6, 0.8, 0.9)]
    for less, more in pairwise(steps):
        assert all(more[name] >= share - 1e-9 for name, share in less.items())


@_heavy
@pytest.mark.parametrize("generation", ["keras", "tf_keras"])
def test_each_kernel_is_tried_alone(generation: str, tmp_path: Path):
    live = zoo.cnn() if generation == "keras" else zoo.legacy("cnn")
    made = keras_made.save(live, tmp_path)
    split = make_split(tmp_path / "split", zoo.sample_inputs(live, 24), None)
    rows = measure(made.model.to_json(), split.to_json(), KNOBS, samples=16, seed=1)
    assert [row["name"] for row in rows] == [k.name for k in kernels(load_keras(made.model))]
    for row in rows:
        fields = {key: row[key] for key in LayerEntry.model_fields if key in row}
        entry = LayerEntry.model_validate(fields)
        assert entry.before is not None
        assert sum(entry.before.counts) == entry.parameters
        assert [*entry.sensitivity] == ["prune 50 %", "prune 90 %", "8 bits", "3 bits"]
        assert entry.sensitivity["prune 90 %"] > 0
        assert entry.sensitivity["3 bits"] > entry.sensitivity["8 bits"]
    assert measure(made.model.to_json(), split.to_json(), KNOBS, samples=16, seed=1) == rows


@_heavy
def test_a_kernel_before_a_batch_norm_is_judged_as_it_is_written(tmp_path: Path):
    """Scaled channels that the batch norm takes back do no harm where it is folded in."""
    plain = zoo.cnn()
    made = keras_made.save(plain, tmp_path)
    split = make_split(tmp_path / "split", made.inputs, None)
    folder = tmp_path / "scaled"
    folder.mkdir()
    factors = 2.0 ** np.arange(8)
    conv, norm = plain.get_layer("conv"), plain.get_layer("bn_1")
    conv.set_weights([w * factors for w in conv.get_weights()])
    gamma, beta, mean, variance = norm.get_weights()
    variance = (variance + norm.epsilon) * factors**2 - norm.epsilon
    norm.set_weights([gamma, beta, mean * factors, variance])
    scaled = keras_made.save(plain, folder)
    losses = [
        {row["name"]: row["sensitivity"]["8 bits"] for row in rows}["conv/kernel"]
        for rows in (
            measure(m.model.to_json(), split.to_json(), {"bits": [8]}) for m in (made, scaled)
        )
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@_heavy
def test_it_runs_in_a_worker(tmp_path: Path):
    live = zoo.lstm_mask()
    made = keras_made.save(live, tmp_path)
    split = make_split(tmp_path / "split", zoo.sample_inputs(live, 8), None)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = {"model": made.model.to_json(), "split": split.to_json(), "knobs": KNOBS}
    call = "pipcook_deploy.compression.sensitivity:measure"
    with Workers(scratch) as workers:
        rows = workers.call(call, arguments | {"samples": 8, "seed": 0}, heavy=True)
    assert [row["name"] for row in rows] == [
        "embedding/embeddings",
        "lstm/kernel",
        "lstm/recurrent_kernel",
        "label/kernel",
    ]
    assert allocate(rows, 0.5)
