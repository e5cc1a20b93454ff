"""Weights stored as int8 and turned to float when the model runs: a quarter of the size, float arithmetic."""

from collections.abc import Callable
from typing import Any

from pipcook_deploy.converters.onnx_quantize.graph import (
    FLOAT,
    Edges,
    attribute,
    drop_unused,
    replace_nodes,
)
from pipcook_deploy.converters.onnx_quantize.params import to_int8, weight_scales
from pipcook_deploy.converters.onnx_quantize.plan import excluded
from pipcook_deploy.converters.onnx_quantize.store import Store

SMALLEST = 256  # elements: below, the scales cost more than they save

Axis = int | None  # along which the scales lie; None: one scale


def store_weights(
    proto: Any, exclude: tuple[str, ...], *, per_channel: bool
) -> tuple[Any, list[str]]:
    """The model with int8 weights, and the names of the nodes that read them; `proto` stays as it is."""
    copy = type(proto).FromString(proto.SerializeToString())
    edges, store = Edges(copy), Store(copy)
    chosen = _chosen(edges, exclude)
    nodes: list[Any] = []
    names: list[str] = []
    views: dict[tuple[str, Axis], str] = {}
    for node in copy.graph.node:
        view = None
        places = {
            n: axis for n, axis in weight_axes(edges, node).items() if node.input[n] in chosen
        }
        for index, axis in places.items():
            key = node.input[index], axis if per_channel else None
            if node.op_type == "Gather":
                view = _view(edges, store, *key)
                # Only the rows that are looked up become float, not the whole table.
                node.input[index], view.input[0] = view.input[0], view.output[0]
                view.output[0], node.output[0] = node.output[0], view.output[0]
                continue
            if key not in views:
                nodes.append(_view(edges, store, *key))
                views[key] = nodes[-1].output[0]
            node.input[index] = views[key]
        names += [node.name] if places else []
        nodes += [node] if view is None else [node, view]
    replace_nodes(copy, nodes)
    drop_unused(copy)
    return copy, names


def _view(edges: Edges, store: Store, name: str, axis: Axis) -> Any:
    weight = edges.value(name)
    scales = weight_scales(weight, axis)
    integers = store.constant(to_int8(weight, scales, axis))
    return store.dequantize(integers, "int8", scales, axis)


def _chosen(edges: Edges, exclude: tuple[str, ...]) -> set[str]:
    """Float weights that are large enough and read as weights only, by no node that stays in float."""
    chosen = set()
    for name, tensor in edges.constants.items():
        size = 1
        for length in tensor.dims:
            size *= length
        readers = edges.readers.get(name, [])
        if tensor.data_type != FLOAT or size < SMALLEST or name in edges.shared | edges.outputs:
            continue
        if readers and all(_reads_weight(edges, node, name, exclude) for node in readers):
            chosen.add(name)
    return chosen


def _reads_weight(edges: Edges, node: Any, name: str, exclude: tuple[str, ...]) -> bool:
    places = weight_axes(edges, node)
    elsewhere = [n for n, other in enumerate(node.input) if other == name and n not in places]
    return not elsewhere and not excluded(node.name, exclude)


def weight_axes(edges: Edges, node: Any) -> dict[int, Axis]:
    """The inputs of a node that may be weights, each with the axis of its output channels."""
    rule = _AXES.get(node.op_type)
    found = {} if rule is None else rule(edges, node)
    return {n: axis for n, axis in found.items() if n < len(node.input) and node.input[n]}


def _product(edges: Edges, node: Any) -> dict[int, Axis]:
    rank = edges.rank(node.input[1]) or 0
    return {1: rank - 1} if rank > 1 else {}


def _gather(edges: Edges, node: Any) -> dict[int, Axis]:
    rows = attribute(node, "axis", 0) == 0 and edges.rank(node.input[0]) == 2
    return {0: -1} if rows else {}


def _carried(edges: Edges, node: Any) -> dict[int, Axis]:
    """Matrices that a loop is given: TensorFlow's recurrences read their weights so."""
    return {n: 1 for n, name in enumerate(node.input) if n > 1 and edges.rank(name) == 2}


_AXES: dict[str, Callable[[Edges, Any], dict[int, Axis]]] = {
    "Conv": lambda edges, node: {1: 0},
    "ConvTranspose": lambda edges, node: {1: 1 if attribute(node, "group", 1) == 1 else None},
    "Gemm": lambda edges, node: {1: 0 if attribute(node, "transB", 0) else 1},
    "MatMul": _product,
    "Gather": _gather,
    "Loop": _carried,
    "LSTM": lambda edges, node: {1: 1, 2: 1},
    "GRU": lambda edges, node: {1: 1, 2: 1},
    "RNN": lambda edges, node: {1: 1, 2: 1},
}
