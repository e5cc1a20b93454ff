"""Decides which tensors of a float graph are held in u8.

A convolution reads and writes u8; a matrix product reads u8 and writes u8 where it is read as such. What lies
between (additions, poolings, reshapes) follows when all that it reads is u8 and something in int8 reads it.
Products of two activations (attention), norms and recurrences stay in float.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from pipcook_deploy.converters.onnx_quantize.graph import FLOAT, Edges, attribute

HEAVY = ("Conv", "Gemm", "MatMul")
# The integers go through as they are: the output has the input's scale.
SAME = (
    "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity", "DepthToSpace",
    "SpaceToDepth",
)  # fmt: skip
RESCALED = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
FOLDED = ("Relu", "Clip")


@dataclass
class Plan:
    """`heavy` and `light` are the nodes in int8; `tensors` those held in u8, `owner` whose scale they have.

    `folded` maps an activation that u8 does by itself (nothing is below zero) to the node before it. `made`
    are tensors that int8 nodes write: there is no float version of them.
    """

    heavy: list[Any] = field(default_factory=list)
    light: list[Any] = field(default_factory=list)
    folded: dict[str, Any] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)


def candidates(edges: Edges) -> list[Any]:
    """Nodes that can compute in int8: a constant float weight, and an input that is computed."""
    return [node for node in edges.graph.node if node.op_type in HEAVY and _fits(edges, node)]


def excluded(name: str, globs: tuple[str, ...]) -> bool:
    """Whether a node's name is one of those to stay in float."""
    return any(pattern == name or fnmatchcase(name, pattern) for pattern in globs)


def make_plan(edges: Edges, exclude: tuple[str, ...] = (), *, symmetric: bool = False) -> Plan:
    """What is held in int8."""
    plan = Plan()
    plan.heavy = [node for node in candidates(edges) if not excluded(node.name, exclude)]
    wanted = {node.input[0] for node in plan.heavy}
    conv_outputs = {node.output[0] for node in plan.heavy if node.op_type == "Conv"}
    if not symmetric:
        conv_outputs = {_fold(edges, plan, name, exclude) for name in conv_outputs}
    reached = wanted | conv_outputs
    light = _followers(edges, reached, exclude)
    plan.light = _needed(edges, light, wanted)
    if not symmetric:
        _fold_others(edges, plan, wanted, exclude)
    plan.made = conv_outputs | {_written(edges, plan, node) for node in plan.light}
    products = [node for node in plan.heavy if node.op_type != "Conv"]
    read = wanted | {name for node in plan.light for name in _data(edges, node)}
    plan.made |= {name for name in (_written(edges, plan, n) for n in products) if name in read}
    for name in [*wanted, *plan.made, *read]:
        plan.owner[name] = name
    for node in plan.light:
        if node.op_type in SAME:
            plan.owner[node.output[0]] = plan.owner[node.input[0]]
    return plan


def _fits(edges: Edges, node: Any) -> bool:
    weight = edges.constants.get(node.input[1])
    if weight is None or weight.data_type != FLOAT or not edges.is_float(node.input[0]):
        return False
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        return plain and not attribute(node, "transA", 0) and _row(edges, node)
    if node.op_type == "MatMul":
        return len(weight.dims) == 2
    return _row(edges, node)


def _row(edges: Edges, node: Any) -> bool:
    """Whether the bias, if any, is a constant row."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = edges.constants.get(node.input[2])
    return bias is not None and len(bias.dims) == 1


def _fold(edges: Edges, plan: Plan, name: str, exclude: tuple[str, ...]) -> str:
    """The tensor behind an activation that needs no computing when it is written as u8."""
    reader = edges.only_reader(name)
    if reader is None or reader.op_type not in FOLDED or excluded(reader.name, exclude):
        return name
    if reader.op_type == "Clip":
        if reader.input[0] != name or len(reader.input) < 2 or not reader.input[1]:
            return name
        low = edges.value(reader.input[1])
        high = edges.value(reader.input[2]) if len(reader.input) > 2 and reader.input[2] else 1
        if low is None or float(low) != 0 or high is None:
            return name
    plan.folded[reader.name] = edges.maker[name]
    return str(reader.output[0])


def _fold_others(edges: Edges, plan: Plan, wanted: set[str], exclude: tuple[str, ...]) -> None:
    """Activations behind additions and matrix products, where their answer is read as u8."""
    read = wanted | {name for node in plan.light for name in node.input}
    light = {node.name for node in plan.light}
    for node in [*plan.light, *plan.heavy]:
        if node.op_type in SAME or node.op_type == "Conv":
            continue
        reader = edges.only_reader(node.output[0])
        if reader is None or reader.output[0] not in read:
            continue
        if _fold(edges, plan, node.output[0], exclude) != node.output[0]:
            light.discard(reader.name)
    plan.light = [node for node in plan.light if node.name in light]


def _written(edges: Edges, plan: Plan, node: Any) -> str:
    reader = edges.only_reader(node.output[0])
    folded = reader is not None and plan.folded.get(reader.name) is node
    return str(reader.output[0]) if folded and reader is not None else str(node.output[0])


def _data(edges: Edges, node: Any) -> list[str]:
    """Inputs that are activations."""
    count = 1 if node.op_type in SAME else len(node.input)
    return [name for name in node.input[:count] if name]


def _followers(edges: Edges, reached: set[str], exclude: tuple[str, ...]) -> list[Any]:
    """Light nodes, in order, all of whose activations are u8; `reached` grows by what they write."""
    found = []
    for node in edges.graph.node:
        light = node.op_type in SAME + RESCALED
        activation = node.op_type in FOLDED
        if not (light or activation) or excluded(node.name, exclude) or len(node.output) != 1:
            continue
        data = _data(edges, node)[: 1 if activation else None]
        if data and all(name in reached and edges.is_float(name) for name in data):
            if node.op_type == "Slice" and edges.rank(node.input[0]) is None:
                continue
            found.append(node)
            reached.add(node.output[0])
    return found


def _needed(edges: Edges, light: list[Any], wanted: set[str]) -> list[Any]:
    """Those that lead to something in int8: others would only lose precision."""
    needed: list[Any] = []
    read = set(wanted)
    for node in reversed(light):
        if node.output[0] in read:
            needed.append(node)
            read.update(_data(edges, node))
    return needed[::-1]
