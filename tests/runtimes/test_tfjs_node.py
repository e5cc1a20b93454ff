import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import SourceError, VerificationError
from pipcook_deploy.formats.tfjs_model import write_model
from pipcook_deploy.formats.tfjs_weights import Weight
from pipcook_deploy.runtimes.tfjs_node import MissingKernelError, TfjsNodeRuntime
from tests import tfjs_made

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tfjs_made.make_all(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("name", tfjs_made.NAMES)
@pytest.mark.parametrize("backend", TfjsNodeRuntime.backends)
def test_layers_models_answer_as_in_the_process_that_made_them(
    made: Path, name: str, backend: str
) -> None:
    model = tfjs_made.model(made / name)
    runtime = TfjsNodeRuntime(backend)
    found = runtime.run_model(model, tfjs_made.tensors(made / name, "inputs"))
    for output, value in tfjs_made.tensors(made / name, "outputs").items():
        np.testing.assert_allclose(found[output], value, atol=1e-6)


def tensor(name: str) -> str:
    return f"{name}:0"


def graph(into: Path, nodes: list[dict], inputs: list[str], outputs: list[str]) -> Artifact:
    """A graph-model of `nodes` on float32 placeholders of shape [?, 2]."""
    into.mkdir(exist_ok=True)
    shape = {"dim": [{"size": "-1"}, {"size": "2"}]}
    attr = {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": shape}}
    placeholders = [{"name": n, "op": "Placeholder", "attr": attr} for n in inputs]
    described = {"dtype": "DT_FLOAT", "tensorShape": shape}
    write_model(
        into,
        model_format="tfjs_graph",
        topology={"node": placeholders + nodes, "versions": {"producer": 1}},
        weights=[Weight("unused", np.zeros(1, np.float32))],
        generated_by="test",
        signature={
            "inputs": {f"in_{n}": {"name": tensor(n), **described} for n in inputs},
            "outputs": {f"out_{n}": {"name": tensor(n), **described} for n in outputs},
        },
    )
    ins, outs = (
        tuple(Binding(f"{kind}_{n}", f"{kind}_{n}", "float32", (None, 2)) for n in names)
        for kind, names in (("in", inputs), ("out", outputs))
    )
    return Artifact("tfjs", "tfjs_graph", into, "model.json", ins, outs)


def node(op: str, name: str, *inputs: str) -> dict:
    return {"name": name, "op": op, "input": list(inputs), "attr": {"T": {"type": "DT_FLOAT"}}}


VALUES = {
    "in_x": np.array([[1, np.nan], [-np.inf, 2]], np.float32),
    "in_y": np.array([[5, 6], [7, 8]], np.float32),
}


@pytest.mark.parametrize("backend", TfjsNodeRuntime.backends)
def test_graphs_are_paired_by_name_and_nan_survives(tmp_path: Path, backend: str) -> None:
    nodes = [node("Neg", "z", "y"), node("AddV2", "a", "x", "y")]
    artifact = graph(tmp_path, nodes, ["x", "y"], ["z", "a"])
    swapped = replace(artifact, inputs=artifact.inputs[::-1], outputs=artifact.outputs[::-1])
    found = TfjsNodeRuntime(backend).run_artifact(swapped, VALUES)
    np.testing.assert_array_equal(found["out_z"], -VALUES["in_y"])
    np.testing.assert_array_equal(found["out_a"], VALUES["in_x"] + VALUES["in_y"])


def test_a_fixed_batch_runs_sample_by_sample_and_large_ones_in_parts(tmp_path: Path) -> None:
    artifact = graph(tmp_path, [node("Neg", "z", "y")], ["y"], ["z"])
    values = np.arange(140, dtype=np.float32).reshape(70, 2)
    for shape in ((1, 2), (None, 2)):
        inputs = (Binding("in_y", "in_y", "float32", shape),)
        found = TfjsNodeRuntime().run_artifact(replace(artifact, inputs=inputs), {"in_y": values})
        np.testing.assert_array_equal(found["out_z"], -values)


def test_a_kernel_that_wasm_lacks_is_named(tmp_path: Path) -> None:
    equation = base64.b64encode(b"ij,kj->ik").decode()
    einsum = node("Einsum", "z", "x", "y") | {"attr": {"equation": {"s": equation}}}
    artifact = graph(tmp_path, [einsum], ["x", "y"], ["z"])
    values = {"in_x": VALUES["in_y"], "in_y": VALUES["in_y"]}
    found = TfjsNodeRuntime("cpu").run_artifact(artifact, values)
    np.testing.assert_allclose(found["out_z"], VALUES["in_y"] @ VALUES["in_y"].T)
    with pytest.raises(MissingKernelError, match="wasm backend has no kernel Einsum"):
        TfjsNodeRuntime("wasm").run_artifact(artifact, values)


ONE = {"in_y": VALUES["in_y"]}


def test_messages_of_tfjs_are_kept(tmp_path: Path, made: Path) -> None:
    artifact = graph(tmp_path, [node("Frob", "z", "y")], ["y"], ["z"])
    with pytest.raises(VerificationError, match="Frob"):
        TfjsNodeRuntime().run_artifact(artifact, ONE)
    model = tfjs_made.model(made / "several")
    data = json.loads(model.path.read_text().replace("LayerNormalization", "Frobnicate"))
    file = made / "several" / "unknown.json"
    file.write_text(json.dumps(data))
    with pytest.raises(VerificationError, match="Unknown layer: Frobnicate"):
        TfjsNodeRuntime().run_model(
            replace(model, path=file), tfjs_made.tensors(made / "several", "inputs")
        )


def test_wrong_names_missing_values_and_damage_are_errors(tmp_path: Path) -> None:
    artifact = graph(tmp_path, [node("Neg", "z", "y")], ["y"], ["z"])
    runtime = TfjsNodeRuntime()
    with pytest.raises(VerificationError, match="no values for the input in_y"):
        runtime.run_artifact(artifact, {})
    wrong = (replace(artifact.inputs[0], tensor="w"),)
    with pytest.raises(VerificationError, match="inputs in_y, not w"):
        runtime.run_artifact(replace(artifact, inputs=wrong), ONE)
    next(tmp_path.glob("*.bin")).write_bytes(b"")
    with pytest.raises(SourceError, match="truncated"):
        runtime.run_artifact(artifact, ONE)


def test_a_run_is_bounded_in_time(tmp_path: Path) -> None:
    artifact = graph(tmp_path, [node("Neg", "z", "y")], ["y"], ["z"])
    with pytest.raises(VerificationError, match="stopped after"):
        TfjsNodeRuntime(timeout=0.05).run_artifact(artifact, ONE)


@pytest.mark.parametrize("backend", TfjsNodeRuntime.backends)
def test_many_samples_go_through_in_parts(tmp_path: Path, backend: str) -> None:
    artifact = graph(tmp_path, [node("AddV2", "z", "x", "y")], ["x", "y"], ["z"])
    x = np.arange(2 * 1500, dtype=np.float32).reshape(1500, 2)
    np.save(tmp_path / "y.npy", -2 * x)
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    found = TfjsNodeRuntime(backend).run_artifact(artifact, {"in_x": x, "in_y": y})
    np.testing.assert_array_equal(found["out_z"], -x)


def test_texts_go_through_in_parts(tmp_path: Path) -> None:
    artifact = graph(tmp_path, [node("Identity", "z", "y")], ["y"], ["z"])
    artifact.file.write_text(artifact.file.read_text().replace("DT_FLOAT", "DT_STRING"))
    texts = np.array([[f"a{i}", "ö"] for i in range(70)], object)
    found = TfjsNodeRuntime("cpu").run_artifact(artifact, {"in_y": texts})
    assert found["out_z"].tolist() == texts.tolist()


@pytest.mark.parametrize("backend", TfjsNodeRuntime.backends)
def test_calls_are_timed_one_by_one(tmp_path: Path, backend: str) -> None:
    artifact = graph(tmp_path, [node("Neg", "z", "y")], ["y"], ["z"])
    times = TfjsNodeRuntime(backend).time_calls(artifact, ONE, seconds=30, calls=7, warm_up=0)
    assert len(times) == 7 and all(time > 0 for time in times)
    assert len(TfjsNodeRuntime(backend).time_calls(artifact, ONE, seconds=0, warm_up=0)) == 1


def test_a_graph_that_cannot_run_cannot_be_timed(tmp_path: Path) -> None:
    artifact = graph(tmp_path, [node("Frob", "z", "y")], ["y"], ["z"])
    with pytest.raises(VerificationError, match="Frob"):
        TfjsNodeRuntime().time_calls(artifact, ONE, seconds=1)
