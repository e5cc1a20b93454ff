"""Our TF.js artifacts against those of the reference converter: same answers, no more ops, no more bytes."""

from pathlib import Path

import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.to_keras_h5 import KerasH5Converter
from pipcook_deploy.converters.to_saved_model import SavedModelConverter
from pipcook_deploy.converters.to_tfjs import TfjsConverter
from pipcook_deploy.formats.tfjs_model import read_model
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.tfjs_node import TfjsNodeRuntime
from tests import keras_made, zoo

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs`:UserWarning"),
]

# What the reference can write at all: it breaks loops of Keras 3 in graphs, and SeparableConv2D in layers.
GRAPHS = ("mlp", "cnn", "multi_io", "mobilenet_v2", "resnet50")
LAYERS = ("mlp", "lstm", "lstm_mask", "multi_io", "mobilenet_v2")


def both(model: Model, folder: Path, kind: str) -> tuple[Artifact, Artifact]:
    """Our artifact and the reference's."""
    made = []
    for engine in ("builtin", "tensorflowjs"):
        into = folder / engine
        into.mkdir()
        made.append(TfjsConverter(kind=kind, engine=engine).convert(model, into))  # type: ignore[arg-type]
    return made[0], made[1]


def size(artifact: Artifact) -> int:
    return sum(file.stat().st_size for file in artifact.path.iterdir())


def ops(artifact: Artifact) -> int:
    nodes = read_model(artifact.file).topology["node"]
    return sum(node["op"] not in ("Const", "Placeholder") for node in nodes)


def agree(ours: Artifact, theirs: Artifact, made: keras_made.Made) -> None:
    runtime = TfjsNodeRuntime("wasm")
    expected = runtime.run_artifact(theirs, made.inputs)
    found = runtime.run_artifact(ours, made.inputs)
    assert keras_made.largest_difference(found, expected) <= 1e-5
    assert size(ours) <= size(theirs)


def as_source(artifact: Artifact, model: Model) -> Model:
    path = artifact.path if artifact.model_format == "saved_model" else artifact.file
    return Model(path, artifact.model_format, model.spec)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(tmp_path: Path, name: str) -> None:
    made = keras_made.save(zoo.ZOO[name](), tmp_path)
    (tmp_path / "saved").mkdir()
    saved = SavedModelConverter().convert(made.model, tmp_path / "saved")
    ours, theirs = both(as_source(saved, made.model), tmp_path, "graph")
    agree(ours, theirs, made)
    assert ops(ours) <= ops(theirs)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(tmp_path: Path, name: str) -> None:
    made = keras_made.save(zoo.ZOO[name](), tmp_path)
    (tmp_path / "keras_h5").mkdir()
    rebuilt = KerasH5Converter().convert(made.model, tmp_path / "keras_h5")
    ours, theirs = both(as_source(rebuilt, made.model), tmp_path, "layers")
    agree(ours, theirs, made)
