"""Runs the small graphs of the pass tests with numpy: what a pass must not change."""

from collections.abc import Callable, Mapping

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Array, Graph, Node, index_of, node_of
from tests.converters.texts import texts


def run_graph(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name; `feeds` are inputs by name. Convolutions are 1x1 only."""
    made: dict[str, list[Array]] = {}
    given = {node_of(tensor): feeds[name] for name, tensor in graph.inputs.items()}
    order = Graph(graph.nodes.values(), graph.inputs, graph.outputs)
    order.sort()
    for node in order:
        inputs = [made[node_of(tensor)][index_of(tensor)] for tensor in node.inputs]
        made[node.name] = _run(node, inputs, given)
    return {name: made[node_of(t)][index_of(t)] for name, t in graph.outputs.items()}


def _run(node: Node, inputs: list[Array], given: Mapping[str, Array]) -> list[Array]:
    if node.name in given:
        return [given[node.name]]
    if node.value is not None:
        return [node.value]
    if node.op == "Unpack":
        axis = node.integer("axis")
        return [np.take(inputs[0], i, axis) for i in range(inputs[0].shape[axis])]
    if node.op in _FUSED:
        value = _OPS[_FUSED[node.op]](node, *inputs[:2]) + inputs[2]
        for activation in texts(node.attrs["fused_ops"])[1:]:
            value = _OPS[activation](node, value)
        return [value]
    return [_OPS[node.op](node, *inputs)]


_FUSED = {
    "_FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}


def _matmul(node: Node, a: Array, b: Array) -> Array:
    return (a.T if node.flag("transpose_a") else a) @ (b.T if node.flag("transpose_b") else b)


def _depthwise(node: Node, x: Array, weights: Array) -> Array:
    return (x[..., None] * weights[0, 0]).reshape(*x.shape[:-1], -1)


def _batch_norm(
    node: Node, x: Array, scale: Array, offset: Array, mean: Array, variance: Array
) -> Array:
    return (x - mean) / np.sqrt(variance + node.number("epsilon", 1e-4)) * scale + offset


_OPS: dict[str, Callable[..., Array]] = {
    "Identity": lambda node, x: x,
    "Conv2D": lambda node, x, weights: x @ weights[0, 0],
    "Conv2DBackpropInput": lambda node, shape, weights, x: x @ weights[0, 0].T,
    "DepthwiseConv2dNative": _depthwise,
    "MatMul": _matmul,
    "BatchMatMulV2": lambda node, a, b: a @ b,
    "Mul": lambda node, a, b: a * b,
    "RealDiv": lambda node, a, b: a / b,
    "AddV2": lambda node, a, b: a + b,
    "BiasAdd": lambda node, a, b: a + b,
    "Sub": lambda node, a, b: a - b,
    "Abs": lambda node, a: abs(a),
    "Neg": lambda node, x: -x,
    "Relu": lambda node, x: np.maximum(x, 0),
    "Relu6": lambda node, x: np.clip(x, 0, 6),
    "Elu": lambda node, x: np.where(x > 0, x, np.expm1(x)),
    "LeakyRelu": lambda node, x: np.where(x > 0, x, x * node.number("alpha", 0.2)),
    "Sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
    "FusedBatchNormV3": _batch_norm,
    "Reshape": lambda node, x, shape: x.reshape(shape),
    "Transpose": lambda node, x, perm: x.transpose(perm),
    "Einsum": lambda node, a, b: np.einsum(node.text("equation"), a, b),
}
