"""Folds what follows a convolution or matrix product into it: scales, offsets, an activation.

TF.js runs `_FusedConv2D`, `FusedDepthwiseConv2dNative` and `_FusedMatMul` with a bias and one of the
activations below, on every backend (tfjs-converter 4.22, convolution_executor and matrices_executor).
Arithmetic on weights is done in float64 and rounded once.
"""

from dataclasses import dataclass, replace

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Array, Graph, Node, constant, texts_attr
from pipcook_deploy.converters.tfjs.recurrent import hoist_step_products
from pipcook_deploy.converters.tfjs.simplify import share_constants

_FUSED = {
    "Conv2D": "_FusedConv2D",
    "DepthwiseConv2dNative": "FusedDepthwiseConv2dNative",
    "MatMul": "_FusedMatMul",
}
_ACTIVATIONS = ("Relu", "Relu6", "Elu", "LeakyRelu", "Sigmoid")
_FILTER = 1  # which input of all of these the weights are
_LINEAR = (*_FUSED, "Conv2DBackpropInput")


def fuse(graph: Graph) -> None:
    """All fusions of this module, in place."""
    steps = (
        reshape_later,
        fold_before_products,
        push_bias_into_sums,
        fold_after_linear,
        fuse_activations,
        share_constants,
        hoist_step_products,
    )
    for step in steps:
        step(graph)
        graph.sort()  # what a step left behind would count as a reader


@dataclass(frozen=True)
class Affine:
    """y = x * scale + offset, by channel of the last axis; float64."""

    scale: Array
    offset: Array

    def then(self, other: "Affine") -> "Affine":
        """This and then the other."""
        return Affine(self.scale * other.scale, self.offset * other.scale + other.offset)


def _vector(value: Array | None, channels: int, rank: int) -> Array | None:
    """A constant that broadcasts along the last axis only, as float64 of `channels` elements."""
    if value is None or value.dtype.kind != "f" or value.ndim > rank:
        return None
    if any(n != 1 for n in value.shape[:-1]) or value.size not in (1, channels):
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.float64), (channels,))


def affine_of(graph: Graph, node: Node, tensor: str, channels: int, rank: int) -> Affine | None:
    """What `node` does to its input `tensor`, if that is a scale and an offset by channel."""
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "FusedBatchNormV3":
        return _batch_norm(graph, node, tensor, channels)
    if node.op not in ("Mul", "AddV2", "Add", "Sub", "BiasAdd", "RealDiv") or len(node.inputs) != 2:
        return None
    if node.op == "BiasAdd" and node.text("data_format", "NHWC") != "NHWC":
        return None
    first = node.inputs[0] == tensor
    value = _vector(graph.const(node.inputs[1 if first else 0]), channels, rank)
    if value is None:
        return None
    if node.op == "Mul":
        return Affine(value, zero)
    if node.op == "RealDiv":
        return Affine(1 / value, zero) if first and value.all() else None
    if node.op == "Sub":
        return Affine(one, -value) if first else Affine(-one, value)
    return Affine(one, value)


def _batch_norm(graph: Graph, node: Node, tensor: str, channels: int) -> Affine | None:
    if node.flag("is_training", True) or node.text("data_format", "NHWC") != "NHWC":
        return None
    known = [_vector(graph.const(i), channels, 1) for i in node.inputs[1:5]]
    if node.inputs[0] != tensor or any(value is None for value in known):
        return None
    scale, offset, mean, variance = (value for value in known if value is not None)
    factor = scale / np.sqrt(variance + node.number("epsilon", 1e-4))
    return Affine(factor, offset - mean * factor)


def _channels(node: Node, weights: Array) -> int:
    """Output channels of a linear node."""
    if node.op == "DepthwiseConv2dNative":
        return int(weights.shape[2] * weights.shape[3])
    if node.op == "Conv2DBackpropInput":
        return int(weights.shape[2])
    return int(weights.shape[0 if node.flag("transpose_b") else -1])


def _scaled(node: Node, weights: Array, scale: Array) -> Array:
    if node.op == "DepthwiseConv2dNative":
        factor = scale.reshape(weights.shape[2:])
    elif node.op == "Conv2DBackpropInput" or node.flag("transpose_b"):
        factor = scale[:, None]
    else:
        factor = scale
    return (weights.astype(np.float64) * factor).astype(weights.dtype)


def _linear_weights(graph: Graph, node: Node) -> Array | None:
    """The constant filter of a linear node that can be worked on."""
    if node.op not in _LINEAR or node.text("data_format", "NHWC") != "NHWC":
        return None
    weights = graph.const(node.inputs[_FILTER])
    return weights if weights is not None and weights.dtype == np.float32 else None


def _rank(node: Node) -> int:
    return 2 if node.op == "MatMul" else 4


def fold_after_linear(graph: Graph) -> None:
    """Scales and offsets that follow a linear node go into its weights and its bias."""
    users, replaced = graph.users(), {}
    for node in graph:
        weights = _linear_weights(graph, node)
        if weights is None:
            continue
        channels = _channels(node, weights)
        total = Affine(np.ones(channels), np.zeros(channels))
        shared = len(users[node.inputs[_FILTER]]) > 1
        last = node
        while (follower := _only_user(graph, users, last)) is not None:
            step = affine_of(graph, follower, last.name, channels, _rank(node))
            if step is None or (shared and (step.scale != 1).any()):
                break
            total, last = total.then(step), follower
        if last is not node:
            replaced[last.name] = _put(graph, node, weights, total, last)
    graph.replace(replaced)


def _only_user(graph: Graph, users: dict[str, list[Node]], node: Node) -> Node | None:
    if graph.is_output(node) or len(users[node.name]) != 1:
        return None
    return users[node.name][0]


def _put(graph: Graph, node: Node, weights: Array, total: Affine, last: Node) -> str:
    """`node` with the scale in its weights and the offset as a bias: what takes the place of `last`."""
    inputs = list(node.inputs)
    if (total.scale != 1).any():
        scaled = constant(f"{node.name}/scaled", _scaled(node, weights, total.scale))
        inputs[_FILTER] = graph.add(scaled)
    bias = graph.add(constant(f"{node.name}/bias", total.offset.astype(np.float32)))
    if node.op in _FUSED:
        attrs = node.attrs | {"num_args": {"i": "1"}, "fused_ops": texts_attr(["BiasAdd"])}
        made = Node(f"{node.name}/fused", _FUSED[node.op], [*inputs, bias], attrs)
        result = graph.add(made)
    else:
        linear = graph.add(replace(node, name=f"{node.name}/scaled", inputs=inputs))
        result = graph.add(Node(last.name, "AddV2", [linear, bias], {"T": node.attrs["T"]}))
    graph.shapes[result] = graph.shapes.get(last.name, graph.shapes.get(node.name, ()))
    return result


def fuse_activations(graph: Graph) -> None:
    """An activation that is all that reads a fused node goes into it."""
    users, replaced = graph.users(), {}
    for node in graph:
        follower = _only_user(graph, users, node) if node.op in _FUSED.values() else None
        if follower is None or follower.op not in _ACTIVATIONS:
            continue
        if (node.op, follower.op) == ("FusedDepthwiseConv2dNative", "LeakyRelu"):
            continue  # TF.js reads no alpha for it
        node.attrs["fused_ops"] = texts_attr(["BiasAdd", follower.op])
        if follower.op == "LeakyRelu":
            node.attrs["leakyrelu_alpha"] = {"f": follower.number("alpha", 0.2)}
        replaced[follower.name] = node.name
    graph.replace(replaced)


def reshape_later(graph: Graph) -> None:
    """A bias or an activation after the reshape of a product comes before it: there it can fuse."""
    users = graph.users()
    for product in graph:
        weights = _linear_weights(graph, product) if product.op == "MatMul" else None
        reshape = None if weights is None else _only_user(graph, users, product)
        if weights is None or reshape is None or reshape.op != "Reshape":
            continue
        channels, last = _channels(product, weights), product.name
        shape = graph.shapes.get(reshape.name, ())
        follower = _only_user(graph, users, reshape)
        moved: Node | None = None
        while follower is not None and shape and shape[-1] == channels:
            read = moved.name if moved else reshape.name
            step = affine_of(graph, follower, read, channels, 2)
            if step is None and follower.op not in _ACTIVATIONS:
                break
            inputs = [last if tensor == read else tensor for tensor in follower.inputs]
            last = graph.add(replace(follower, name=f"{follower.name}/rows", inputs=inputs))
            graph.shapes[last] = graph.shapes.get(product.name, (None, channels))
            moved = follower
            follower = _only_user(graph, users, follower)
        if moved is not None:
            late = graph.add(replace(reshape, name=moved.name, inputs=[last, reshape.inputs[1]]))
            graph.shapes[late] = shape
            graph.replace({moved.name: late})
            users = graph.users()


def fold_before_products(graph: Graph) -> None:
    """A scale and offset that only a matrix product reads goes into it: (x s + o) W = x (s W) + o W."""
    users = graph.users()
    for node in graph:
        weights = _linear_weights(graph, node) if node.op == "MatMul" else None
        if weights is None or node.flag("transpose_a") or node.flag("transpose_b"):
            continue
        if len(users[node.inputs[1]]) > 1:
            continue
        total, tensor = _affine_before(graph, users, node, weights.shape[0])
        if tensor == node.inputs[0]:
            continue
        wide = weights.astype(np.float64)
        scaled = (total.scale[:, None] * wide).astype(np.float32)
        node.inputs = [tensor, graph.add(constant(f"{node.name}/scaled", scaled))]
        bias = graph.add(constant(f"{node.name}/offset", (total.offset @ wide).astype(np.float32)))
        inner = graph.add(replace(node, name=f"{node.name}/product"))
        node.op, node.inputs, node.attrs = "AddV2", [inner, bias], {"T": node.attrs["T"]}
        users = graph.users()


def _affine_before(
    graph: Graph, users: dict[str, list[Node]], node: Node, channels: int
) -> tuple[Affine, str]:
    total = Affine(np.ones(channels), np.zeros(channels))
    tensor = node.inputs[0]
    while True:
        before = graph.producer(tensor)
        if _only_user(graph, users, before) is None or len(before.inputs) < 2:
            return total, tensor
        given = next((i for i in before.inputs if graph.const(i) is None), None)
        step = given and affine_of(graph, before, given, channels, 2)
        # The operand must have the result's shape: a constant may not widen it.
        if not given or not step or graph.shapes.get(given) != graph.shapes.get(tensor):
            return total, tensor
        total, tensor = step.then(total), given


def push_bias_into_sums(graph: Graph) -> None:
    """(x W + h U) + b becomes (x W + b) + h U, as recurrent cells have it: the bias fuses for nothing."""
    users = graph.users()
    for node in graph:
        if node.op not in ("BiasAdd", "AddV2"):
            continue
        bias = next((i for i in node.inputs if graph.const(i) is not None), None)
        rest = [graph.producer(tensor) for tensor in node.inputs if tensor != bias]
        if bias is None or len(rest) != 1:
            continue
        total = rest[0]
        if total.op != "AddV2" or _only_user(graph, users, total) is not node:
            continue
        for index, tensor in enumerate(total.inputs):
            linear = graph.producer(tensor)
            weights = _linear_weights(graph, linear)
            if weights is None or _only_user(graph, users, linear) is not total:
                continue
            if affine_of(graph, node, total.name, _channels(linear, weights), _rank(linear)):
                _swap(graph, node, total, index, bias)
                users = graph.users()
                break


def _swap(graph: Graph, node: Node, total: Node, index: int, bias: str) -> None:
    attrs = {"T": total.attrs["T"]}
    inner = graph.add(Node(f"{node.name}/inner", "AddV2", [total.inputs[index], bias], attrs))
    graph.shapes[inner] = graph.shapes.get(total.inputs[index], ())
    node.op, node.attrs = "AddV2", attrs
    node.inputs = [inner, total.inputs[1 - index]]
