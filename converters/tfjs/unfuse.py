"""Rewrites what only TF.js has, or reads otherwise than TensorFlow, to TensorFlow's operations.

What TF.js does: the executors of @tensorflow/tfjs-converter 4.22 and the kernels of tfjs-core. No TensorFlow.
"""

import base64
from collections.abc import Callable

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, reference
from pipcook_deploy.errors import UnsupportedConversionError

_PLAIN = {
    "_FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}
_ACTIVATIONS = {
    name.lower(): name
    for name in ("Linear", "Relu", "Relu6", "Elu", "LeakyRelu", "Prelu", "Sigmoid")
}
# TF.js hands their first input on as it is.
_FORWARDING = (
    "Identity", "StopGradient", "FakeQuantWithMinMaxVars", "Snapshot", "Print", "PreventGradient",
)  # fmt: skip
# Under these names TF.js runs what TensorFlow calls otherwise.
_RENAMED = {
    "DepthwiseConv2d": "DepthwiseConv2dNative",
    "Mod": "FloorMod",  # TF.js takes the sign of the divisor
    "Select": "SelectV2",  # TF.js broadcasts the condition
}
_DEFAULT_ALPHA = 0.2  # of leaky ReLUs in TF.js and in TensorFlow
_DEFAULT_EPSILON = 1e-3  # of batch norms in TF.js; TensorFlow's is 1e-4


def unfuse(graph: Graph) -> None:
    """All rewrites, in place; the nodes are sorted afterwards.

    Raises `UnsupportedConversionError` for a fusion that is none of TF.js'.
    """
    replaced: dict[str, str] = {}
    for node in graph:
        replaced |= _forwarded(node)
        node.op = _RENAMED.get(node.op, node.op)
        rule = _RULES.get(node.op)
        if rule is not None:
            result = rule(graph, node)
            if result != node.name:
                replaced[node.name] = result
    graph.replace(replaced)
    graph.sort()


def _forwarded(node: Node) -> dict[str, str]:
    if node.op in _FORWARDING or node.op == "PlaceholderWithDefault":
        return {node.name: node.inputs[0]}
    if node.op == "IdentityN":
        return {reference(node.name, i): tensor for i, tensor in enumerate(node.inputs)}
    return {}


def _unfused(graph: Graph, node: Node) -> str:
    steps = [
        _decoded(text) for text in node.attrs.get("fused_ops", {}).get("list", {}).get("s", [])
    ]
    activation = _ACTIVATIONS.get(steps[1].lower()) if len(steps) == 2 else "Linear"
    if len(steps) > 2 or [s.lower() for s in steps[:1]] not in ([], ["biasadd"]) or not activation:
        raise UnsupportedConversionError(
            f"{node.op} with {' and '.join(steps)} is no operation of TF.js: {node.name}"
        )
    typed = {"T": node.attrs["T"]} if "T" in node.attrs else {}
    attrs = {key: value for key, value in node.attrs.items() if key not in _FUSION_ATTRS}
    last = graph.add(Node(f"{node.name}/linear", _PLAIN[node.op], node.inputs[:2], attrs))
    if steps:
        offset = Node(f"{node.name}/offset", "BiasAdd", [last, node.inputs[2]], dict(typed))
        if "data_format" in attrs:
            offset.attrs["data_format"] = attrs["data_format"]
        last = graph.add(offset)
    if activation == "Linear":
        return last
    made = Node(f"{node.name}/activation", activation, [last], dict(typed))
    if activation == "Prelu":
        made.inputs.append(node.inputs[3])
        return _prelu(graph, made)
    if activation == "LeakyRelu":
        made.attrs["alpha"] = {"f": _alpha(node)}
    return graph.add(made)


# Attributes of the fusion, which the operation by itself has not.
_FUSION_ATTRS = (
    "fused_ops", "num_args", "num_host_args", "TArgs", "epsilon", "leakyrelu_alpha", "filter_format",
)  # fmt: skip


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def _alpha(node: Node) -> float:
    if node.op == "FusedDepthwiseConv2dNative":
        return _DEFAULT_ALPHA  # TF.js reads no alpha for it
    return node.number("leakyrelu_alpha", _DEFAULT_ALPHA)


def _prelu(graph: Graph, node: Node) -> str:
    """relu(x) + (-alpha) relu(-x): the form in which TFLite finds its own PReLU again."""
    x, alpha = node.inputs
    typed, made = node.attrs, node.name

    def add(name: str, op: str, *inputs: str) -> str:
        return graph.add(Node(f"{made}/{name}", op, list(inputs), dict(typed)))

    below = add("below", "Relu", add("mirrored", "Neg", x))
    slope = graph.const(alpha)
    if slope is None:
        negative = add("slope", "Neg", alpha)
    else:
        negative = graph.add(constant(f"{made}/slope", np.negative(slope)))
    return add("sum", "AddV2", add("above", "Relu", x), add("scaled", "Mul", negative, below))


def _normalized(graph: Graph, node: Node) -> str:
    """TF.js always takes the mean and the variance that it is given."""
    node.attrs["is_training"] = {"b": False}
    node.attrs.setdefault("epsilon", {"f": _DEFAULT_EPSILON})
    return node.name


def _erfc(graph: Graph, node: Node) -> str:
    """1 - erf(z) is erfc(z), which TF.js lacks: TFLite and ONNX know GELUs by it, and have no Erf or an own."""
    one, erf = graph.const(node.inputs[0]), graph.producer(node.inputs[1])
    if one is None or one.ndim or one != 1 or erf.op != "Erf":
        return node.name
    attrs = {"T": erf.attrs["T"]} if "T" in erf.attrs else {}
    return graph.add(Node(f"{node.name}/Erfc", "Erfc", list(erf.inputs), attrs))


_RULES: dict[str, Callable[[Graph, Node], str]] = {
    **dict.fromkeys(_PLAIN, _unfused),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _normalized),
    "Prelu": _prelu,
    "Sub": _erfc,
}
