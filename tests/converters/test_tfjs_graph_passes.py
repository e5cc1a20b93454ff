from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.converters.tfjs.einsum import lower_einsums
from pipcook_deploy.converters.tfjs.fold import fold
from pipcook_deploy.converters.tfjs.fuse import fuse
from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, text_attr
from pipcook_deploy.converters.tfjs.graph_writer import prepare, topology
from pipcook_deploy.converters.tfjs.inline import Function, inline
from pipcook_deploy.converters.tfjs.names import tidy_names
from pipcook_deploy.converters.tfjs.ops import check_ops, known_ops
from pipcook_deploy.converters.tfjs.shapes import fold_sizes, static_reshapes
from pipcook_deploy.converters.tfjs.simplify import rewrite, share_constants, simplify
from pipcook_deploy.errors import UnsupportedConversionError
from tests.converters.graph_runner import run_graph
from tests.converters.texts import texts

RNG = np.random.default_rng(3)
FLOAT: dict[str, Any] = {"T": {"type": "DT_FLOAT"}}


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def chain(x: np.ndarray, *steps: tuple[str, dict[str, Any], list[np.ndarray]]) -> Graph:
    """x and then each operation (name, attributes, constants), as a graph with input and output."""
    graph = Graph([Node("x", "Placeholder", [], {"dtype": {"type": "DT_FLOAT"}})])
    last, value = "x", x
    shapes = {"x": (None, *x.shape[1:])}
    for index, (op, attrs, constants) in enumerate(steps):
        others = [graph.add(constant(f"c{index}", array)) for array in constants]
        last = graph.add(Node(f"layer/{index}_{op}", op, [last, *others], FLOAT | attrs))
        part = Graph(graph.nodes.values(), {"x": "x"}, {"y": last})
        value = run_graph(part, {"x": x})["y"]
        shapes[last] = (None, *value.shape[1:])
    graph.inputs, graph.outputs, graph.shapes = {"x": "x"}, {"y": last}, shapes
    return graph


def ops(graph: Graph) -> Counter[str]:
    return Counter(n.op for n in graph if n.op not in ("Const", "Placeholder"))


def same_after(graph: Graph, step: Any, x: np.ndarray) -> Graph:
    """Run a pass; the graph must still answer the same."""
    wanted = run_graph(graph, {"x": x})["y"]
    step(graph)
    graph.sort()
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], wanted, rtol=1e-5, atol=1e-5)
    return graph


IMAGE = floats(2, 3, 3, 4)
NORM = [floats(6), floats(6), floats(6), np.abs(floats(6))]


def test_batch_norm_bias_and_activation_go_into_a_convolution() -> None:
    norm = {"is_training": {"b": False}, "epsilon": {"f": 0.001}}
    graph = chain(
        IMAGE,
        ("Conv2D", {}, [floats(1, 1, 4, 6)]),
        ("BiasAdd", {}, [floats(6)]),
        ("FusedBatchNormV3", norm, NORM),
        ("Relu", {}, []),
    )
    same_after(graph, fuse, IMAGE)
    assert ops(graph) == {"_FusedConv2D": 1}
    (node,) = (n for n in graph if n.op == "_FusedConv2D")
    assert texts(node.attrs["fused_ops"]) == ["BiasAdd", "Relu"]


def test_a_batch_norm_in_training_mode_stays() -> None:
    norm = {"is_training": {"b": True}}
    graph = chain(IMAGE, ("Conv2D", {}, [floats(1, 1, 4, 6)]), ("FusedBatchNormV3", norm, NORM))
    fuse(graph)
    assert ops(graph) == {"Conv2D": 1, "FusedBatchNormV3": 1}


def test_the_scale_after_a_depthwise_convolution_goes_into_it_but_leaky_relu_does_not() -> None:
    """TF.js reads no alpha for a fused depthwise convolution."""
    graph = chain(
        IMAGE,
        ("DepthwiseConv2dNative", {}, [floats(1, 1, 4, 2)]),
        ("Mul", {}, [floats(8)]),
        ("AddV2", {}, [floats(1, 1, 1, 8)]),
        ("LeakyRelu", {"alpha": {"f": 0.3}}, []),
    )
    same_after(graph, fuse, IMAGE)
    assert ops(graph) == {"FusedDepthwiseConv2dNative": 1, "LeakyRelu": 1}


def test_a_constant_that_differs_by_pixel_is_not_a_bias() -> None:
    graph = chain(IMAGE, ("Conv2D", {}, [floats(1, 1, 4, 6)]), ("AddV2", {}, [floats(1, 3, 3, 6)]))
    same_after(graph, fuse, IMAGE)
    assert ops(graph) == {"Conv2D": 1, "AddV2": 1}


def test_weights_that_two_nodes_share_are_not_scaled() -> None:
    graph = chain(IMAGE, ("Conv2D", {}, [floats(1, 1, 4, 4)]), ("Mul", {}, [floats(4)]))
    graph.nodes["again"] = Node("again", "Conv2D", ["layer/1_Mul", "c0"], dict(FLOAT))
    graph.outputs["y"] = "again"
    same_after(graph, fuse, IMAGE)
    assert ops(graph) == {"Conv2D": 2, "Mul": 1}


def test_what_is_an_output_is_not_fused_away() -> None:
    graph = chain(IMAGE, ("Conv2D", {}, [floats(1, 1, 4, 6)]), ("AddV2", {}, [floats(6)]))
    graph.outputs["raw"] = "layer/0_Conv2D"
    wanted = run_graph(graph, {"x": IMAGE})
    fuse(graph)
    found = run_graph(graph, {"x": IMAGE})
    assert all((wanted[name] == found[name]).all() for name in ("y", "raw"))


ROWS = floats(3, 4)


@pytest.mark.parametrize("transposed", [False, True])
def test_batch_norm_between_dense_layers_leaves_two_products(transposed: bool) -> None:
    second = floats(6, 5)
    turned = {"transpose_b": {"b": transposed}}
    graph = chain(
        ROWS,
        ("MatMul", turned, [floats(6, 4) if transposed else floats(4, 6)]),
        ("BiasAdd", {}, [floats(6)]),
        ("Relu", {}, []),
        ("Mul", {}, [floats(6)]),
        ("AddV2", {}, [floats(6)]),
        ("MatMul", {}, [second]),
        ("BiasAdd", {}, [floats(5)]),
    )
    same_after(graph, fuse, ROWS)
    assert ops(graph) == {"_FusedMatMul": 2}


def test_a_bias_after_the_reshape_of_a_product_fuses() -> None:
    shape = np.array([-1, 3, 6], np.int32)
    graph = chain(
        ROWS[:3],
        ("MatMul", {}, [floats(4, 6)]),
        ("Reshape", {}, [shape]),
        ("BiasAdd", {}, [floats(6)]),
        ("Relu", {}, []),
    )
    same_after(graph, fuse, ROWS[:3])
    assert ops(graph) == {"_FusedMatMul": 1, "Reshape": 1}


def test_the_scale_after_a_transposed_convolution_goes_into_it() -> None:
    graph = Graph(
        [
            Node("x", "Placeholder"),
            constant("size", np.array([2, 3, 3, 5], np.int32)),
            constant("w", floats(1, 1, 5, 4)),
            constant("s", floats(5)),
            constant("b", floats(5)),
            Node("conv", "Conv2DBackpropInput", ["size", "w", "x"], dict(FLOAT)),
            Node("mul", "Mul", ["conv", "s"], dict(FLOAT)),
            Node("add", "AddV2", ["mul", "b"], dict(FLOAT)),
        ],
        {"x": "x"},
        {"y": "add"},
    )
    same_after(graph, fuse, IMAGE)
    assert ops(graph) == {"Conv2DBackpropInput": 1, "AddV2": 1}


def test_products_of_time_steps_with_the_same_weights_become_one() -> None:
    series = floats(3, 2, 4)  # time, batch, features
    nodes = [
        Node("x", "Placeholder"),
        Node("steps", "Unpack", ["x"], {"num": {"i": "3"}, "axis": {"i": "0"}} | FLOAT),
        constant("w", floats(4, 5)),
        constant("b", floats(5)),
        *(Node(f"m{i}", "MatMul", [f"steps:{i}" if i else "steps", "w"], dict(FLOAT)) for i in range(3)),
        *(Node(f"a{i}", "BiasAdd", [f"m{i}", "b"], dict(FLOAT)) for i in range(3)),
        Node("s", "AddV2", ["a0", "a1"], dict(FLOAT)),
        Node("t", "AddV2", ["s", "a2"], dict(FLOAT)),
    ]  # fmt: skip
    graph = Graph(nodes, {"x": "x"}, {"y": "t"})
    graph.shapes = {"x": (3, None, 4)}
    same_after(graph, fuse, series)
    assert ops(graph)["_FusedMatMul"] == 1
    assert ops(graph)["Unpack"] == 1


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("aecd,abcd->acbe", (2, 3, 4, 5), (2, 6, 4, 5)),
        ("acbe,aecd->abcd", (2, 4, 6, 3), (2, 3, 4, 5)),
        ("abc,cde->abde", (2, 3, 4), (4, 5, 6)),
        ("abcd,cde->abe", (2, 3, 4, 5), (4, 5, 6)),
        ("ab,cb->ac", (2, 3), (4, 3)),
        ("a,b->ab", (2,), (3,)),
    ],
)
def test_einsum_becomes_a_matrix_product(
    equation: str, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    a, b = floats(*left), floats(*right)
    graph = chain(a, ("Einsum", {"equation": text_attr(equation)}, [b]))
    graph.shapes["c0"] = right
    same_after(graph, lower_einsums, a)
    assert "Einsum" not in ops(graph)


@pytest.mark.parametrize("equation", ["aa,ab->ab", "ab,bc->a", "a...,ab->b..."])
def test_other_einsums_stay(equation: str) -> None:
    nodes = [Node("x", "Placeholder"), Node("z", "Placeholder")]
    nodes.append(Node("e", "Einsum", ["x", "z"], {"equation": text_attr(equation)} | FLOAT))
    graph = Graph(nodes, {"x": "x", "z": "z"}, {"y": "e"})
    graph.shapes = {"x": (3, 3), "z": (3, 3)}
    lower_einsums(graph)
    assert "Einsum" in ops(graph)


def test_softsign_is_written_with_what_tfjs_has() -> None:
    graph = chain(ROWS, ("Abs", {}, []))
    graph.nodes["soft"] = Node("soft", "Softsign", ["x"], dict(FLOAT))
    graph.outputs["y"] = "soft"
    rewrite(graph)
    found = run_graph(graph, {"x": ROWS})["y"]
    np.testing.assert_allclose(found, ROWS / (1 + abs(ROWS)), rtol=1e-6)


def test_casts_between_types_that_are_one_in_tfjs_and_identities_go() -> None:
    cast = {"SrcT": {"type": "DT_INT64"}, "DstT": {"type": "DT_INT32"}}
    nodes = [Node("x", "Placeholder"), Node("c", "Cast", ["x"], cast), Node("i", "Identity", ["c"])]
    graph = Graph(nodes, {"x": "x"}, {"y": "i"})
    simplify(graph)
    assert graph.outputs == {"y": "x"}


def test_equal_constants_are_stored_once_but_not_those_of_another_type_or_shape() -> None:
    values = [np.ones(4, np.float32), np.ones(4, np.float32), np.ones((2, 2), np.float32)]
    nodes = [constant(f"c{i}", v) for i, v in enumerate(values)]
    nodes.append(Node("y", "Concat", ["c0", "c1", "c2"]))
    graph = Graph(nodes, {}, {"y": "y"})
    share_constants(graph)
    assert graph.nodes["y"].inputs == ["c0", "c0", "c2"]


def flatten(batch: int | None, *sizes: int | None) -> Graph:
    """A flatten as Keras writes it: the batch from the shape, the rest multiplied."""
    nodes = [
        Node("x", "Placeholder"),
        Node("shape", "Shape", ["x"]),
        constant("axes", np.array([1, 2], np.int32)),
        constant("axis", np.array(0, np.int32)),
        constant("first", np.array([0], np.int32)),
        Node("rest", "GatherV2", ["shape", "axes", "axis"]),
        Node("product", "Prod", ["rest", "axis"]),
        Node("batch", "GatherV2", ["shape", "first", "axis"]),
        Node("one", "Pack", ["product"]),
        Node("target", "ConcatV2", ["batch", "one", "axis"]),
        Node("y", "Reshape", ["x", "target"]),
    ]
    graph = Graph(nodes, {"x": "x"}, {"y": "y"})
    graph.shapes = {"x": (batch, *sizes), "y": (None, None), "product": ()}
    return graph


def test_a_reshape_with_one_unknown_size_needs_no_shape_arithmetic() -> None:
    graph = flatten(None, 3, 4)
    assert static_reshapes(graph)
    graph.sort()
    assert ops(graph) == {"Reshape": 1}
    assert graph.const(graph.nodes["y"].inputs[1]).tolist() == [-1, 12]


def test_a_reshape_with_two_unknown_sizes_keeps_it() -> None:
    graph = flatten(None, None, 4)
    assert not static_reshapes(graph)
    assert graph.nodes["y"].inputs[1] == "target"


def test_sizes_that_are_known_become_constants() -> None:
    graph = flatten(None, 3, 4)
    assert fold_sizes(graph)
    assert "Prod" not in ops(graph)


def counting(limit: str, unroll_limit: int = 9) -> Graph:
    """x is doubled while a counter is below `limit`, a constant or an input."""
    graph = Graph(
        [
            Node("x", "Placeholder"),
            Node("n", "Placeholder"),
            constant("three", np.array(3, np.int32)),
            constant("zero", np.array(0, np.int32)),
            Node(
                "loop",
                "While",
                ["zero", limit, "x"],
                {"cond": {"func": {"name": "c"}}, "body": {"func": {"name": "b"}}},
            ),
        ],
        {"x": "x", "n": "n"},
        {"y": "loop:2"},
    )
    arguments = [Node(name, "Placeholder") for name in ("i", "limit", "v")]
    less = Graph([*arguments, Node("less", "Less", ["i", "limit"])])
    body = Graph(
        [
            *arguments,
            constant("one", np.array(1, np.int32)),
            Node("next", "AddV2", ["i", "one"]),
            Node("twice", "AddV2", ["v", "v"]),
        ]
    )
    names = ["i", "limit", "v"]
    functions = {
        "c": Function(less, names, ["less"]),
        "b": Function(body, names, ["next", "limit", "twice"]),
    }
    return inline(graph, functions, unroll_limit, infer=lambda graph: None)


def test_a_loop_with_a_fixed_number_of_steps_is_written_out() -> None:
    graph = counting("three")
    assert ops(graph) == {"AddV2": 3}
    assert (run_graph(graph, {"x": ROWS, "n": ROWS})["y"] == ROWS * 8).all()


def test_a_loop_that_depends_on_the_input_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedConversionError, match="'loop' runs as often as the input says"):
        counting("n")


def test_a_loop_beyond_the_limit_is_refused() -> None:
    with pytest.raises(UnsupportedConversionError, match="more than 2 steps") as error:
        counting("three", unroll_limit=2)
    assert error.value.hint and "tfjs.unroll_limit" in error.value.hint


def test_lists_become_tensors() -> None:
    nodes = [
        Node("x", "Placeholder"),
        constant("size", np.array(2, np.int32)),
        constant("shape", np.array([-1, 4], np.int32)),
        constant("zero", np.array(0, np.int32)),
        Node("list", "TensorListReserve", ["shape", "size"], {"element_dtype": {"type": "DT_FLOAT"}}),
        Node("set", "TensorListSetItem", ["list", "zero", "x"]),
        Node("y", "TensorListStack", ["set", "shape"]),
    ]  # fmt: skip
    graph = inline(Graph(nodes, {"x": "x"}, {"y": "y"}), {}, 9, infer=lambda graph: None)
    assert ops(graph) == {"ZerosLike": 1, "Pack": 1}


def test_names_are_the_spec_s_and_the_layers() -> None:
    nodes = [
        Node(["serving_default_image", "0"][0], "Placeholder"),
        constant("unknown_7", floats(4, 5)),
        Node("StatefulPartitionedCall/net/dense/MatMul", "MatMul", ["serving_default_image", "unknown_7"]),
    ]  # fmt: skip
    graph = Graph(nodes, {"image": "serving_default_image"}, {"out": nodes[2].name})
    graph.sort()
    tidy_names(graph)
    assert list(graph.nodes) == ["image", "net/dense/MatMul/kernel", "net/dense/MatMul"]
    assert graph.outputs == {"out": "net/dense/MatMul"}


def test_outputs_that_tfjs_would_mix_up_become_nodes_of_their_own() -> None:
    graph = Graph(
        [Node("x", "Placeholder"), Node("u", "Unpack", ["x"])],
        {"x": "x"},
        {"same": "x", "second": "u:1", "first": "u", "again": "u"},
    )
    graph.sort()
    tidy_names(graph)
    assert len(set(graph.outputs.values())) == 4
    assert all(graph.producer(t).op != "Placeholder" for t in graph.outputs.values())


def test_missing_operations_are_named_with_their_layers() -> None:
    nodes = [
        Node("x", "Placeholder"),
        Node("net/odd_layer/Erfinv", "Erfinv", ["x"]),
        Node("net/conv/Conv2D", "Conv2D", ["x"], {"data_format": text_attr("NCHW")}),
    ]
    with pytest.raises(UnsupportedConversionError) as error:
        check_ops(Graph(nodes))
    assert "no Erfinv: in net/odd_layer" in error.value.message
    assert "Conv2D with channels first: in net/conv" in error.value.message


def test_the_table_of_operations_is_that_of_the_supported_version() -> None:
    version, known = known_ops()
    assert version == "4.22.0"
    assert {"_FusedConv2D", "FusedDepthwiseConv2dNative", "_FusedMatMul", "Erf"} <= known.keys()
    assert not {"Erfc", "RaggedGather"} & known.keys()


def test_the_same_graph_in_another_order_is_written_the_same() -> None:
    def written(reverse: bool) -> Any:
        nodes = [
            Node("x", "Placeholder"),
            constant("w", np.eye(4, dtype=np.float32)),
            constant("b", np.ones(4, np.float32)),
            Node("a/MatMul", "MatMul", ["x", "w"], dict(FLOAT)),
            Node("a/BiasAdd", "BiasAdd", ["a/MatMul", "b"], dict(FLOAT)),
        ]
        graph = Graph(nodes[::-1] if reverse else nodes, {"x": "x"}, {"y": "a/BiasAdd"})
        prepare(graph, optimize=lambda graph: None)
        return topology(graph)

    assert written(False) == written(True)


@pytest.mark.parametrize(
    ("op", "attrs", "inputs", "wanted"),
    [
        ("Less", {}, [1, 2], True),
        ("Max", {}, [[3, 7], 0], 7),
        ("Range", {}, [0, 6, 2], [0, 2, 4]),
        ("StridedSlice", {"shrink_axis_mask": {"i": "1"}}, [[5, 6], [1], [2], [1]], 6),
        ("Cast", {"DstT": {"type": "DT_INT32"}}, [2.9], 2),
        ("MatMul", {}, [[[1]], [[1]]], None),
    ],
)
def test_loop_bounds_are_computed(
    op: str, attrs: dict[str, Any], inputs: list[Any], wanted: Any
) -> None:
    found = fold(Node("n", op, [], attrs), [np.asarray(value) for value in inputs])
    assert wanted is found if wanted is None else (found == np.asarray(wanted)).all()
