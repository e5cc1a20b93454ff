"""Weight sharing: centroids as good as they can be, zeros kept, the same every time."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.compression.cluster import Cluster
from pipcook_deploy.compression.keras_layers import kernels
from pipcook_deploy.compression.kmeans import cluster_values
from pipcook_deploy.compression.prune import Prune
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from tests import keras_made, zoo
from tests.compression.made_split import make_split


def _heavy(test: Any) -> Any:
    for name in ("__array__ implementation:DeprecationWarning", "(?s).*HDF5 file:UserWarning"):
        test = pytest.mark.filterwarnings(f"ignore:{name}")(test)
    return pytest.mark.heavy(test)


def _loss(values: np.ndarray, centroids: np.ndarray, numbers: np.ndarray) -> float:
    return float(np.square(values - centroids[numbers]).sum())


def _optimum(values: np.ndarray, count: int) -> float:
    """Clusters of numbers are intervals: try all of them."""
    ordered = np.sort(values)
    splits = combinations(range(1, len(ordered)), count - 1)
    return min(
        sum(float(np.square(part - part.mean()).sum()) for part in np.split(ordered, [*split]))
        for split in splits
    )


@pytest.mark.parametrize("seed", range(5))
def test_centroids_are_as_good_as_the_best_intervals(seed: int):
    values = np.random.default_rng(seed).standard_t(2, size=24)
    centroids, numbers = cluster_values(values, 4)
    assert _loss(values, centroids, numbers) <= _optimum(values, 4) * 1.02 + 1e-12
    assert (np.diff(centroids) > 0).all()
    assert (np.abs(values[:, None] - centroids).argmin(axis=1) == numbers).all()


def test_few_different_values_are_kept_as_they_are():
    values = np.array([0.5, -1.0, 0.5, 2.0])
    centroids, numbers = cluster_values(values, 8)
    assert centroids.tolist() == [-1.0, 0.5, 2.0]
    assert centroids[numbers].tolist() == values.tolist()


@_heavy
def test_values_are_shared_zeros_stay_and_ends_get_more(tmp_path: Path):
    sparse = _pruned(zoo.cnn(), tmp_path)
    into = tmp_path / "into"
    into.mkdir()
    result = Cluster(k=4).apply(sparse, into)
    before = {k.name: k.get() for k in kernels(load_keras(sparse))}
    after = {k.name: k.get() for k in kernels(load_keras(result.model))}
    counts = {name: len(np.unique(v[v != 0])) for name, v in after.items()}
    assert counts["transpose/kernel"] == counts["separable/pointwise_kernel"] == 4
    assert counts["conv/kernel"] == counts["label/kernel"] == 16
    assert (after["depthwise/kernel"] == before["depthwise/kernel"]).all()
    assert all(((after[name] == 0) == (value == 0)).all() for name, value in before.items())
    layers: Any = result.details["layers"]
    assert {name: row["clusters"] for name, row in layers.items()} == counts


@_heavy
def test_training_moves_the_shared_values_together(tmp_path: Path):
    sparse = _pruned(zoo.mlp(), tmp_path)
    split = make_split(tmp_path / "train", zoo.sample_inputs(load_keras(sparse), 128), None)
    files = []
    for folder, epochs in (("a", 4), ("b", 4), ("alone", 0)):
        (tmp_path / folder).mkdir()
        options = Cluster(k={"dense*": 4}, epochs=epochs, batch=32, learning_rate=1e-2)
        result = options.apply(sparse, tmp_path / folder, split)
        files.append(result.model.path.read_bytes())
        value = {k.name: k.get() for k in kernels(load_keras(result.model))}
        assert len(np.unique(value["dense_1/kernel"])) == 5  # four and zero
        assert float((value["dense_1/kernel"] == 0).mean()) == pytest.approx(0.5, abs=0.01)
        assert len(np.unique(value["probabilities/kernel"])) > 30
    assert files[0] == files[1] != files[2]


@_heavy
def test_a_wrong_name_is_told(tmp_path: Path):
    made = keras_made.save(zoo.mlp(), tmp_path)
    with pytest.raises(CompressionError, match="no kernel is called 'dense_9/kernel'"):
        Cluster(k={"dense_9/kernel": 4}).apply(made.model, tmp_path)


def _pruned(live: Any, folder: Path) -> Model:
    source, into = folder / "source", folder / "pruned"
    source.mkdir()
    into.mkdir()
    options = Prune(sparsity=0.5, scope="layer", careful={"depthwise": 0.0})
    return options.apply(keras_made.save(live, source).model, into).model
