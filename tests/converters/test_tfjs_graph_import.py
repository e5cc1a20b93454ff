"""TF.js graph-models as sources: what TF.js answers is right, whatever TensorFlow calls it."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy import plugins
from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, texts_attr
from pipcook_deploy.converters.tfjs.graph_import import import_graph
from pipcook_deploy.converters.tfjs.graph_reader import attribute, read_graph
from pipcook_deploy.converters.tfjs.import_check import check_importable
from pipcook_deploy.converters.tfjs.unfuse import unfuse
from pipcook_deploy.converters.to_saved_model import SavedModelConverter
from pipcook_deploy.converters.to_tfjs import TfjsConverter
from pipcook_deploy.errors import ConversionError, SourceError, UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import write_model
from pipcook_deploy.formats.tfjs_weights import Weight
from pipcook_deploy.model import Model
from pipcook_deploy.planner import describe_plan, plan
from pipcook_deploy.runtimes.tensorflow_runtime import TensorFlowRuntime
from pipcook_deploy.runtimes.tfjs_node import TfjsNodeRuntime
from pipcook_deploy.sources import load
from pipcook_deploy.steps import runtime_for
from tests import zoo
from tests.converters.graph_runner import run_graph

Row = dict[str, Any]
FLOAT, INT, LONG, BOOL, BYTE = (
    {"type": f"DT_{name}"} for name in ("FLOAT", "INT32", "INT64", "BOOL", "UINT8")
)
rng = np.random.default_rng(3)


def text(value: str) -> Row:
    return {"s": base64.b64encode(value.encode()).decode()}


def ints(*values: int) -> Row:
    return {"list": {"i": [str(value) for value in values]}}


def row(name: str, op: str, *inputs: str, **attr: Row) -> Row:
    return {"name": name, "op": op, "input": list(inputs), "attr": attr}


def placeholder(name: str, dtype: Row, *sizes: int) -> Row:
    shape = {"dim": [{"size": str(size)} for size in sizes]}
    return row(name, "Placeholder", dtype=dtype, shape={"shape": shape})


def write(into: Path, nodes: list[Row], weights: dict[str, np.ndarray], *outputs: str) -> Path:
    """A graph-model of which every placeholder is an input under its own name with `in_` before it."""

    def info(name: str, dtype: str, shape: Row | None) -> Row:
        return {"name": f"{name}:0" if ":" not in name else name, "dtype": dtype} | (
            {"tensorShape": shape} if shape else {}
        )

    inputs = {
        f"in_{n['name']}": info(n["name"], n["attr"]["dtype"]["type"], n["attr"]["shape"]["shape"])
        for n in nodes
        if n["op"] == "Placeholder"
    }
    consts = [
        row(n, "Const", dtype=LONG if v.dtype == np.int64 else FLOAT) for n, v in weights.items()
    ]
    into.mkdir(exist_ok=True)
    write_model(
        into,
        model_format="tfjs_graph",
        topology={"node": nodes + consts, "library": {}, "versions": {"producer": 561}},
        weights=[Weight(name, value) for name, value in weights.items()],
        generated_by="test",
        signature={"inputs": inputs, "outputs": {o: info(o, "DT_FLOAT", None) for o in outputs}},
    )
    return into / "model.json"


def source(file: Path) -> Model:
    return load(file, workdir=file.parent / "work")


def imported(model: Model, folder: Path) -> Artifact:
    folder.mkdir()
    return SavedModelConverter().convert(model, folder)


def assert_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray], atol: float) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].shape == value.shape, name
        np.testing.assert_allclose(got[name], value, rtol=1e-6, atol=atol, err_msg=name)


# ---- fusions, with numpy


FUSIONS = [[], ["BiasAdd"], *(["BiasAdd", a] for a in ("Relu", "relu6", "Elu", "Sigmoid", "Prelu"))]


@pytest.mark.parametrize("steps", [*FUSIONS, ["BiasAdd", "LeakyRelu"]], ids="+".join)
@pytest.mark.parametrize("op", ["_FusedConv2D", "FusedDepthwiseConv2dNative", "_FusedMatMul"])
def test_a_fusion_becomes_its_parts(op: str, steps: list[str]) -> None:
    weights = rng.normal(size=(3, 4) if op == "_FusedMatMul" else (1, 1, 3, 4)).astype("f4")
    if op == "FusedDepthwiseConv2dNative":
        weights = weights[..., :1]
    channels = 3 if op == "FusedDepthwiseConv2dNative" else 4
    x = rng.normal(size=(5, 3) if op == "_FusedMatMul" else (2, 4, 4, 3)).astype("f4") * 5
    bias, alpha = rng.normal(size=(2, channels)).astype("f4")
    attrs = {"fused_ops": texts_attr(steps), "T": FLOAT, "leakyrelu_alpha": {"f": 0.5}}
    extra = ["bias", "alpha"][: 2 if "Prelu" in steps else len(steps[:1])]
    graph = Graph(
        [
            Node("x", "Placeholder"),
            constant("w", weights),
            constant("bias", bias),
            constant("alpha", alpha),
            Node("y", op, ["x", "w", *extra], attrs | {"num_args": {"i": "1"}}),
        ],
        {"x": "x"},
        {"y": "y"},
    )
    unfuse(graph)
    assert not any("used" in node.op or "fused_ops" in node.attrs for node in graph)
    want = (
        (x[..., None] * weights[0, 0]).reshape(*x.shape)
        if channels == 3
        else x @ (weights if weights.ndim == 2 else weights[0, 0])
    )
    want = want + (bias if steps else 0)
    slope = 0.2 if op.startswith("FusedDepthwise") else 0.5  # TF.js reads no alpha there
    after = {
        "relu": np.maximum(want, 0),
        "relu6": np.clip(want, 0, 6),
        "elu": np.where(want > 0, want, np.expm1(want)),
        "sigmoid": 1 / (1 + np.exp(-want)),
        "prelu": np.where(want > 0, want, alpha * want),
        "leakyrelu": np.where(want > 0, want, slope * want),
    }
    want = after[steps[1].lower()] if len(steps) > 1 else want
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], want, rtol=1e-5, atol=1e-5)


def test_a_fusion_that_tfjs_has_not_is_refused() -> None:
    attrs = {"fused_ops": texts_attr(["BiasAdd", "Tanh"])}
    nodes = [Node("x", "Placeholder"), Node("y", "_FusedMatMul", ["x", "x", "x"], attrs)]
    with pytest.raises(UnsupportedConversionError, match=r"BiasAdd and Tanh .*: y"):
        unfuse(Graph(nodes, {"x": "x"}, {"y": "y"}))


def test_what_tfjs_hands_on_is_gone() -> None:
    nodes = [
        Node("x", "Placeholder"),
        Node("z", "Placeholder"),
        Node("n", "IdentityN", ["x", "z"]),
        Node("q", "FakeQuantWithMinMaxVars", ["n:1", "x", "x"]),
        Node("y", "StopGradient", ["q"]),
    ]
    graph = Graph(nodes, {"x": "x", "z": "z"}, {"y": "y"})
    unfuse(graph)
    assert graph.outputs == {"y": "z"} and [node.name for node in graph] == ["x", "z"]


# ---- reading, without TensorFlow


def test_attributes_of_old_writers_are_understood() -> None:
    assert attribute({"s": [83, 65, 77, 69]}) == text("SAME")
    assert attribute({"type": 3}) == INT
    assert attribute({"list": {"s": [[65]], "type": [1, "DT_BOOL"]}}) == {
        "list": {"s": ["QQ=="], "type": ["DT_FLOAT", "DT_BOOL"]}
    }
    with pytest.raises(ValueError, match="base64"):
        attribute({"s": "SAME!"})


X = placeholder("x", FLOAT, -1, 4)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([X, row("y", "Relu", "ghost")], "'y' reads 'ghost'"),
        ([X, row("y", "Relu", "x"), row("y", "Elu", "x")], "'y' is there twice"),
        ([X, row("y", "Relu", "z"), row("z", "Relu", "y")], "circular"),
        ([X, row("y", "Add", "x", "c"), row("c", "Const")], "'c' has no weight"),
        ([X, row("y", "Relu", "x", T={"s": "?"})], "base64"),
    ],
)
def test_a_damaged_graph_is_refused(nodes: list[Row], says: str, tmp_path: Path) -> None:
    model = source(write(tmp_path / "model", nodes, {}, "y"))
    with pytest.raises(SourceError, match=says):
        check_importable(read_graph(model))


@pytest.mark.parametrize(
    ("op", "says"),
    [
        ("Enter", r"loops, conditions and tensor lists: Enter \(first and 1 more\)"),
        ("StatelessWhile", r"loops, .*: StatelessWhile \(first"),
        ("TensorListReserve", r"tensor lists: TensorListReserve \(first"),
        ("LookupTableFindV2", r"hash tables: LookupTableFindV2 \(first"),
        ("RandomUniform", r"random numbers, .*: RandomUniform \(first"),
        ("MyOwn", r"custom operations or functions: MyOwn \(first"),
    ],
)
def test_what_is_not_imported_is_named_with_its_nodes(op: str, says: str, tmp_path: Path) -> None:
    nodes = [X, row("first", op, "x"), row("second", op, "first"), row("y", "Relu", "second")]
    model = source(write(tmp_path / "model", nodes, {}, "y"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedConversionError, match=says) as error:
        check_importable(read_graph(model))
    assert error.value.hint and "--to tfjs" in error.value.hint


def test_what_no_output_needs_does_not_matter(tmp_path: Path) -> None:
    nodes = [X, row("y", "Relu", "x"), row("loop", "Enter", "x")]
    graph = read_graph(source(write(tmp_path / "model", nodes, {}, "y")))
    check_importable(graph)
    assert [node.name for node in graph] == ["x", "y"]


def test_outputs_that_the_graph_lacks_are_refused(tmp_path: Path) -> None:
    model = source(write(tmp_path / "model", [X, row("y", "Relu", "x")], {}, "y"))
    spec = model.spec.outputs[0].model_copy(update={"name": "nobody"})
    with pytest.raises(ConversionError, match="no tensor 'nobody' for output 'nobody'"):
        read_graph(model.with_spec(outputs=(spec,)))


def test_the_planner_goes_through_a_saved_model_and_to_tfjs_directly() -> None:
    kinds = [plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)]
    wanted = [kind() for kind in kinds if kind.format in ("onnx", "tflite", "saved_model", "tfjs")]
    steps = plan("tfjs_graph", wanted, kinds)
    assert sorted(describe_plan("tfjs_graph", steps)) == [
        "tfjs_graph -> saved_model",
        "tfjs_graph -> saved_model -> onnx",
        "tfjs_graph -> saved_model -> tflite",
        "tfjs_graph -> tfjs",
    ]


# ---- against TF.js in Node


def every_reading() -> tuple[list[Row], dict[str, np.ndarray], list[str]]:
    """Operations that TF.js reads otherwise, types that it lacks, names that TensorFlow lacks."""
    conv = {
        "T": FLOAT, "strides": ints(1, 2, 2, 1), "padding": text("SAME"), "num_args": {"i": "1"},
        "data_format": text("NHWC"), "dilations": ints(1, 1, 1, 1), "explicit_paddings": {"list": {}},
        "epsilon": {"f": 0.0},
    }  # fmt: skip

    def fused(*steps: str) -> Row:
        return {"fused_ops": texts_attr(steps)}

    nodes = [
        placeholder("image", FLOAT, -1, 6, 6, 3),
        placeholder("class", INT, -1, 4),
        placeholder("pixels", BYTE, -1, 4),
        row("conv", "_FusedConv2D", "image", "k", "b", "a",
            **conv | fused("BiasAdd", "Prelu") | {"num_args": {"i": "2"}}),
        row("deep", "FusedDepthwiseConv2dNative", "conv", "d", "b", **conv | fused("BiasAdd", "Elu")),
        row("norm", "FusedBatchNormV3", "deep", "b", "a", "b", "v", T=FLOAT, U=FLOAT),
        row("odd name!", "Mean", "norm", "axes", T=FLOAT, Tidx=LONG, keep_dims={"b": False}),
        row("dense", "_FusedMatMul", "odd name!", "m", "m_b", T=FLOAT, num_args={"i": 1},
            leakyrelu_alpha={"f": 0.3}, **fused("BiasAdd", "LeakyRelu")),
        row("best", "ArgMax", "dense", "axis", T=FLOAT, Tidx=INT, output_type=LONG),
        row("shape", "Shape", "dense", T=FLOAT, out_type=LONG),
        row("twice", "AddV2", "pixels", "pixels", T=BYTE),
        row("wide", "Cast", "class", SrcT=INT, DstT=LONG),
        row("mod", "Mod", "wide", "three", T=LONG),
        row("div", "RealDiv", "wide", "three", T=LONG),
        row("mean", "Mean", "wide", "axis", T=LONG, Tidx=INT, keep_dims={"b": True}),
        row("mixed", "Mul", "div", "dense", T=FLOAT),
        row("large", "Greater", "mixed", "dense", T=FLOAT),
        row("where", "Where", "large", T=BOOL),
        row("chosen", "Select", "large", "mixed", "dense", T=FLOAT),
        row("rows", "GatherNd", "chosen", "where", Tparams=FLOAT, Tindices=LONG),
        row("total", "Sum", "rows", "first", T=FLOAT, Tidx=LONG, keep_dims={"b": True}),
        row("erf", "Erf", "dense", T=FLOAT),
        row("erfc", "Sub", "one", "erf", T=FLOAT),
        row("split", "Split", "axis", "erfc", T=FLOAT, num_split={"i": "2"}),
        row("prelu", "Prelu", "dense", "m_b", T=FLOAT),
    ]  # fmt: skip
    weights = {
        "k": rng.normal(size=(3, 3, 3, 4)), "b": rng.normal(size=4), "a": rng.normal(size=4),
        "d": rng.normal(size=(3, 3, 4, 1)), "v": rng.uniform(1e-3, 1, 4),
        "m": rng.normal(size=(4, 4)), "m_b": rng.normal(size=4), "one": np.array(1.0),
    }  # fmt: skip
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    weights |= {
        "axes": np.array([1, 2]),
        "axis": np.array(1),
        "first": np.array([0]),
        "three": np.array(3),
    }
    outputs = [
        "norm", "dense", "best", "shape", "twice", "mean", "mod", "div", "mixed", "chosen", "total", "erfc",
        "split:1", "prelu",
    ]  # fmt: skip
    return nodes, weights, outputs


@pytest.mark.heavy
@pytest.mark.node
def test_it_is_read_as_tfjs_reads_it(tmp_path: Path) -> None:
    nodes, weights, outputs = every_reading()
    model = source(write(tmp_path / "model", nodes, weights, *outputs))
    inputs = {
        "in_image": rng.normal(size=(3, 6, 6, 3)).astype(np.float32),
        "in_class": np.array([[-7, -3, -1, 0], [5, 7, 8, -2], [1, 2, 3, 4]], np.int32),
        "in_pixels": np.full((3, 4), 200, np.uint8),
    }
    truth = TfjsNodeRuntime().run_model(model, inputs)
    artifact = imported(model, tmp_path / "saved")
    assert {b.name for b in artifact.outputs} == set(outputs)
    given = {b.name: (b.dtype, b.shape) for b in artifact.inputs}
    assert given["in_image"] == ("float32", (None, 6, 6, 3))
    assert given["in_pixels"] == ("uint8", (None, 4))
    assert_same(TensorFlowRuntime().run_artifact(artifact, inputs), truth, 1e-5)


@pytest.mark.heavy
@pytest.mark.node
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("name", "precision"), [("cnn", "uint8"), ("transformer", "float32")])
def test_a_written_graph_goes_on_to_every_format(name: str, precision: str, tmp_path: Path) -> None:
    keras_model = zoo.ZOO[name]()
    keras_model.export(str(tmp_path / "keras"), verbose=False)
    (tmp_path / "tfjs").mkdir()
    exported = source_of_saved(tmp_path / "keras")
    written = TfjsConverter(precision=precision).convert(exported, tmp_path / "tfjs")  # type: ignore[arg-type]
    model = source(written.file)
    inputs = zoo.sample_inputs(keras_model, 3)
    truth = TfjsNodeRuntime().run_model(model, inputs)
    saved = imported(model, tmp_path / "saved")
    assert {b.name for b in saved.inputs} == set(inputs)
    for kind in ("onnx", "tflite"):
        (tmp_path / kind).mkdir()
        step = Model(saved.path, "saved_model", model.spec)
        artifact = plugins.converter(kind)().convert(step, tmp_path / kind)
        answers = runtime_for(kind).variants()[0].run_artifact(artifact, inputs)
        assert_same(answers, truth, 1e-5)
    assert_same(TensorFlowRuntime().run_artifact(saved, inputs), truth, 1e-5)


def source_of_saved(folder: Path) -> Model:
    return load(folder, workdir=folder.parent / "work")


@pytest.mark.heavy
def test_a_graph_that_tensorflow_does_not_take_is_refused(tmp_path: Path) -> None:
    nodes = [X, row("y", "MatMul", "x", "w", T=FLOAT)]
    weights = {"w": np.ones((3, 3), np.float32)}
    model = source(write(tmp_path / "model", nodes, weights, "y"))
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedConversionError, match=r"does not take this graph: .*y"):
        import_graph(model, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
