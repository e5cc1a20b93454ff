"""Names that a reader of `model.json` understands and that are the same in every conversion.

TensorFlow's carry the calls they were inlined from, numbers of the export, and `unknown_7` for weights.
"""

import re
from collections.abc import Mapping

from pipcook_deploy.converters.tfjs.graph import Graph, Node, index_of, node_of, reference

_CALL = re.compile(r"^(?:(?:Stateful)?PartitionedCall(?:_\d+)?/)+")
_VALID = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_OPERANDS = {
    **dict.fromkeys(("_FusedConv2D", "FusedDepthwiseConv2dNative", "_FusedMatMul"), ("", "kernel", "bias")),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "MatMul", "Conv3D"), ("", "kernel")),
    "Conv2DBackpropInput": ("shape", "kernel"),
    "GatherV2": ("table", "indices", "axis"),
    "Reshape": ("", "shape"),
    "FusedBatchNormV3": ("", "scale", "offset", "mean", "variance"),
}  # fmt: skip


def tidy_names(graph: Graph) -> None:
    """Rename all nodes: inputs as the spec has them, weights after what reads them first.

    Expects sorted nodes. An output of the model becomes a node of its own where TF.js would mix it up:
    an input or a constant that is returned, one tensor under two names, or a node's second tensor.
    """
    separate_outputs(graph)
    graph.sort()
    taken: set[str] = set()
    renamed: dict[str, str] = {}
    for name, tensor in graph.inputs.items():
        renamed[node_of(tensor)] = _free(name if _VALID.fullmatch(name) else node_of(tensor), taken)
    others = [node for node in graph if node.name not in renamed]
    for node in others:
        if node.value is None:
            renamed[node.name] = _free(_CALL.sub("", node.name), taken)
    for user in graph:
        for position, tensor in enumerate(user.inputs):
            node = graph.producer(tensor)
            if node.name not in renamed:
                renamed[node.name] = _free(
                    f"{renamed[user.name]}/{_operand(user, position)}", taken
                )
    _apply(graph, renamed)


def separate_outputs(graph: Graph) -> None:
    """Give each output of the model a node that makes nothing else."""
    seen: set[str] = set()
    for name, tensor in graph.outputs.items():
        node = graph.producer(tensor)
        if node.op in ("Placeholder", "Const") or index_of(tensor) or node.name in seen:
            plain = name.replace(":", "_")  # in a graph a colon sets off the index of an output
            copy = graph.add(Node(f"output/{plain}", "Identity", [tensor], _type_of(node)))
            graph.outputs[name] = copy
            seen.add(copy)
        seen.add(node.name)


def _type_of(node: Node) -> dict[str, dict[str, object]]:
    dtype = node.dtype("dtype") or node.dtype("T")
    return {"T": {"type": dtype}} if dtype else {}


def _operand(user: Node, position: int) -> str:
    names = _OPERANDS.get(user.op, ())
    return names[position] if position < len(names) and names[position] else f"operand_{position}"


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def _apply(graph: Graph, renamed: Mapping[str, str]) -> None:
    def moved(tensor: str) -> str:
        return reference(renamed[node_of(tensor)], index_of(tensor))

    for node in graph:
        node.name = renamed[node.name]
        node.inputs = [moved(tensor) for tensor in node.inputs]
    graph.nodes = {node.name: node for node in graph.nodes.values()}
    graph.inputs = {name: moved(tensor) for name, tensor in graph.inputs.items()}
    graph.outputs = {name: moved(tensor) for name, tensor in graph.outputs.items()}
    graph.shapes = {moved(t): s for t, s in graph.shapes.items() if node_of(t) in renamed}
