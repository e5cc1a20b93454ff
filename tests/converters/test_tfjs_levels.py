"""TF.js weights on fewer levels: pruned ones stay zero in TF.js itself, and the wire gets smaller."""

from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.to_tfjs import TfjsConverter
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.files import files_below, wire_sizes
from pipcook_deploy.formats.tfjs_model import read_model, write_model
from pipcook_deploy.formats.tfjs_weights import Weight
from pipcook_deploy.model import Model
from pipcook_deploy.runtimes.tfjs_node import TfjsNodeRuntime
from pipcook_deploy.spec import ModelSpec, TensorSpec
from pipcook_deploy.tensors import load_tensors, save_tensors

SIZE = 96
RNG = np.random.default_rng(11)


def pruned(*shape: int) -> np.ndarray:
    """Weights with 80 % zeros, each column of another range."""
    value = RNG.normal(size=shape).astype(np.float32)
    value[np.abs(value) < np.quantile(np.abs(value), 0.8)] = 0
    return value * np.geomspace(0.01, 1, shape[-1], dtype=np.float32)


KERNELS = {"first/kernel": pruned(SIZE, SIZE), "second/kernel": pruned(SIZE, SIZE)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A graph-model without TensorFlow: one output a kernel, `first = x @ first/kernel`."""
    folder = tmp_path_factory.mktemp("source")
    shape = {"dim": [{"size": "-1"}, {"size": str(SIZE)}]}
    float32 = {"type": "DT_FLOAT"}
    nodes = [
        {"name": "x", "op": "Placeholder", "attr": {"dtype": float32, "shape": {"shape": shape}}}
    ]
    for name in KERNELS:
        nodes.append({"name": name, "op": "Const", "attr": {"dtype": float32}})
        product = name.split("/")[0]
        nodes.append(
            {"name": product, "op": "MatMul", "input": ["x", name], "attr": {"T": float32}}
        )
    described = {"dtype": "DT_FLOAT", "tensorShape": shape}
    outputs = [name.split("/")[0] for name in KERNELS]
    write_model(
        folder,
        model_format="tfjs_graph",
        topology={"node": nodes, "versions": {"producer": 1}},
        weights=[Weight(name, value) for name, value in KERNELS.items()],
        generated_by="test",
        signature={
            "inputs": {"x": {"name": "x:0", **described}},
            "outputs": {name: {"name": f"{name}:0", **described} for name in outputs},
        },
    )

    def specs(names: list[str]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name=n, dtype="float32", shape=(None, SIZE)) for n in names)

    spec = ModelSpec(inputs=specs(["x"]), outputs=specs(outputs))
    return Model(folder / "model.json", "tfjs_graph", spec)


def convert(source: Model, into: Path, **options: object) -> Artifact:
    into.mkdir()
    return TfjsConverter(**options).convert(source, into)


def wire(artifact: Artifact) -> int:
    return sum(wire_sizes(file)[1] for file in files_below(artifact.path))


def numbers(artifact: Artifact, name: str) -> int:
    """How many different numbers a weight is stored with."""
    return len(set(read_model(artifact.file).weights.encoded(name).data))


def test_fewer_levels_take_fewer_bytes_on_the_wire(source: Model, tmp_path: Path) -> None:
    sizes = [
        wire(convert(source, tmp_path / str(levels), precision="uint8", levels=levels))
        for levels in (256, 32, 16, 4)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.8 * sizes[0] < 0.4 * wire(convert(source, tmp_path / "plain"))


def test_levels_are_chosen_by_weight_and_told(source: Model, tmp_path: Path) -> None:
    each = {"first/*": 16, "second/*": 4}
    artifact = convert(source, tmp_path / "each", precision="uint8", levels=each)
    assert [numbers(artifact, name) for name in KERNELS] == [16, 4]
    assert artifact.precision == "uint8"
    assert artifact.details["precision"] == "uint8, 4 to 16 levels"
    again = convert(source, tmp_path / "one", precision="uint8", levels={"second/*": 4})
    assert numbers(again, "first/kernel") > 64
    everywhere = convert(source, tmp_path / "all", precision="uint8", levels=16)
    assert everywhere.details["precision"] == "uint8, 16 levels"


def test_levels_are_of_uint8_only(source: Model, tmp_path: Path) -> None:
    artifact = convert(source, tmp_path / "half", precision="float16", levels=4)
    assert "precision" not in artifact.details
    stored = read_model(artifact.file).weights
    for name, value in KERNELS.items():
        np.testing.assert_allclose(stored[name], value, rtol=1e-3)


@pytest.mark.parametrize("levels", [1, 257, {"*": 0}])
def test_levels_out_of_range_are_refused(levels: object) -> None:
    with pytest.raises(ValueError, match=r"levels"):
        TfjsConverter(levels=levels)  # type: ignore[arg-type]


def test_the_reference_converter_has_no_levels(source: Model, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="256 levels only"):
        convert(source, tmp_path / "out", engine="tensorflowjs", levels=16)


@pytest.mark.node
@pytest.mark.parametrize("levels", [3, 4, 16, 256])
def test_tfjs_reads_what_was_written_and_zeros_are_zeros(
    source: Model, tmp_path: Path, levels: int
) -> None:
    artifact = convert(source, tmp_path / "out", precision="uint8", levels=levels)
    found = TfjsNodeRuntime("cpu").run_artifact(artifact, {"x": np.eye(SIZE, dtype=np.float32)})
    stored = read_model(artifact.file).weights
    for name, value in KERNELS.items():
        answer = found[name.split("/")[0]]
        np.testing.assert_array_equal(answer, stored[name])
        assert (answer[value == 0] == 0).all()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "inputs"
    save_tensors(folder, {"x": RNG.normal(size=(70, SIZE)).astype(np.float32)})
    return folder


@pytest.mark.heavy
@pytest.mark.node
def test_a_trial_answers_like_tfjs_does_with_the_written_file(
    source: Model, inputs: Path, tmp_path: Path
) -> None:
    from pipcook_deploy.converters.tfjs.weight_trial import trial

    tried = [{}, {"first/kernel": {"precision": "uint8", "levels": 16}}]
    tried.append(tried[1] | {"second/kernel": {"precision": "float16"}})
    rows = trial(str(source.path), tried, str(inputs), str(tmp_path / "answers"), batch=32)
    options = [
        {},
        {"weights": {"first/*": "uint8"}, "levels": 16},
        {"weights": {"first/*": "uint8", "second/*": "float16"}, "levels": 16},
    ]
    given = load_tensors(inputs)
    for number, row in enumerate(rows):
        artifact = convert(source, tmp_path / str(number), **options[number])
        expected = TfjsNodeRuntime("wasm").run_artifact(artifact, given)
        found = load_tensors(Path(row["folder"]))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-4)
    assert [row["bytes"] for row in rows] == sorted((r["bytes"] for r in rows), reverse=True)


@pytest.mark.heavy
def test_damage_grows_with_fewer_levels_and_is_told_by_weight(source: Model, inputs: Path) -> None:
    from pipcook_deploy.converters.tfjs.weight_trial import ranked_damage, weight_damage, weights

    assert [(row["name"], row["kind"]) for row in weights(str(source.path))] == [
        (name, "MatMul") for name in KERNELS
    ]
    for row in weight_damage(str(source.path), str(inputs), 50, [4, 64, 16]):
        assert [entry["levels"] for entry in row["stored"]] == [None, 64, 16, 4]
        damage, size = ([entry[k] for entry in row["stored"]] for k in ("damage", "bytes"))
        assert damage == sorted(damage) and damage[0] == 0 < damage[1]
        assert size == sorted(size, reverse=True)
    assert ranked_damage(str(source.path), str(inputs), 50).keys() == KERNELS.keys()


@pytest.mark.heavy
def test_a_trial_of_what_is_not_there_is_refused(source: Model, tmp_path: Path) -> None:
    from pipcook_deploy.converters.tfjs.trial_graph import TrialGraph

    with pytest.raises(ConversionError, match="no weight 'third'"):
        TrialGraph(source.path).answers({"third": np.zeros((2, 2))}, {"x": np.zeros((1, SIZE))}, 8)
