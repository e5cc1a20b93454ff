"""Rewrites to what TF.js has, and removal of what does nothing at inference."""

from collections.abc import Callable

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Array, Graph, Node, constant

_NOTHING = (
    "Identity",
    "StopGradient",
    "PreventGradient",
    "CheckNumerics",
    "Snapshot",
    "EnsureShape",
)

# TF.js knows float32, int32, bool, string and complex64; what TensorFlow has besides becomes these.
TFJS_TYPES = {
    "DT_HALF": "DT_FLOAT", "DT_BFLOAT16": "DT_FLOAT", "DT_DOUBLE": "DT_FLOAT",
    "DT_INT8": "DT_INT32", "DT_INT16": "DT_INT32", "DT_INT64": "DT_INT32", "DT_UINT8": "DT_INT32",
    "DT_UINT16": "DT_INT32", "DT_UINT32": "DT_INT32", "DT_UINT64": "DT_INT32",
    "DT_COMPLEX128": "DT_COMPLEX64",
}  # fmt: skip


def simplify(graph: Graph) -> None:
    """All rewrites of this module, in place."""
    remove_nothing(graph)
    rewrite(graph)
    share_constants(graph)
    graph.sort()


def remove_nothing(graph: Graph) -> None:
    """Drop identities and casts between types that are one type in TF.js."""
    graph.replace(
        {
            node.name: node.inputs[0]
            for node in graph
            if node.op in _NOTHING or (node.op == "Cast" and _same_type(node))
        }
    )


def _same_type(node: Node) -> bool:
    source, target = node.dtype("SrcT"), node.dtype("DstT")
    return TFJS_TYPES.get(source, source) == TFJS_TYPES.get(target, target)


def rewrite(graph: Graph) -> None:
    """Replace operations that TF.js lacks by those that it has."""
    replaced = {}
    for node in graph:
        rule = _RULES.get(node.op)
        if rule is not None:
            result = rule(graph, node)
            if result != node.name:
                replaced[node.name] = result
    graph.replace(replaced)


def _erfc(graph: Graph, node: Node) -> str:
    erf = graph.add(Node(f"{node.name}/Erf", "Erf", node.inputs, node.attrs))
    graph.shapes[erf] = graph.shapes.get(node.name, ())
    one = graph.add(constant(f"{node.name}/one", _one(node)))
    return _derived(graph, node, "Sub", [one, erf])


def _one(node: Node) -> Array:
    return np.asarray(1, np.float64 if node.dtype() == "DT_DOUBLE" else np.float32)


def _derived(graph: Graph, node: Node, op: str, inputs: list[str]) -> str:
    attrs = {"T": node.attrs["T"]} if "T" in node.attrs else {}
    name = graph.add(Node(f"{node.name}/{op}", op, inputs, attrs))
    if node.name in graph.shapes:
        graph.shapes[name] = graph.shapes[node.name]
    return name


def _softsign(graph: Graph, node: Node) -> str:
    size = _derived(graph, node, "Abs", node.inputs)
    one = graph.add(constant(f"{node.name}/one", _one(node)))
    return _derived(
        graph, node, "RealDiv", [node.inputs[0], _derived(graph, node, "AddV2", [size, one])]
    )


def _add_pair(graph: Graph, node: Node) -> str:
    if len(node.inputs) == 2:  # grappler makes these; sums of two fuse with what is around them
        node.op, node.attrs = "AddV2", {"T": node.attrs["T"]}
    return node.name


def _reverse(graph: Graph, node: Node) -> str:
    """TF.js' wasm backend reads four bytes for each element of what it reverses, bool has one."""
    if node.dtype() != "DT_BOOL":
        return node.name
    whole, truth = {"type": "DT_INT32"}, {"type": "DT_BOOL"}
    cast = Node(f"{node.name}/Cast", "Cast", node.inputs[:1], {"SrcT": truth, "DstT": whole})
    inputs = [graph.add(cast), node.inputs[1]]
    made = graph.add(Node(f"{node.name}/whole", "ReverseV2", inputs, node.attrs | {"T": whole}))
    back = Node(f"{node.name}/back", "Cast", [made], {"SrcT": whole, "DstT": truth})
    name = graph.add(back)
    if node.name in graph.shapes:
        for new in (cast.name, made, name):
            graph.shapes[new] = graph.shapes[node.name]
    return name


def _renamed(op: str) -> Callable[[Graph, Node], str]:
    def rename(graph: Graph, node: Node) -> str:
        node.op = op
        return node.name

    return rename


_RULES: dict[str, Callable[[Graph, Node], str]] = {
    "AddN": _add_pair,
    "Erfc": _erfc,
    "ReverseV2": _reverse,
    "Softsign": _softsign,
    "Inv": _renamed("Reciprocal"),
    "Rint": _renamed("Round"),
    "BatchMatMulV3": _renamed("BatchMatMulV2"),
    "LogicalXor": _renamed("NotEqual"),
    "Div": _renamed("RealDiv"),
}


def share_constants(graph: Graph) -> None:
    """Keep one of each set of equal constants."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    replaced = {}
    for node in graph:
        value = node.value
        if value is None or value.dtype == object:
            continue
        kept = first.setdefault((value.dtype.str, value.shape, value.tobytes()), node.name)
        if kept != node.name:
            replaced[node.name] = kept
    graph.replace(replaced)
