"""Finds out what the shape arithmetic of a graph comes to, so that reshapes need none of it.

Keras computes the target of a reshape from the shape of its input, because the batch is not known. Where
at most one size is left unknown, -1 says the same, and Shape, GatherV2, Prod, Pack... are not needed.
"""

from collections.abc import Callable

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant

Sizes = list[int | None]  # a vector of sizes, None where it depends on the input
_MAX_DEPTH = 20
_FOLDED = ("Shape", "StridedSlice", "GatherV2", "Prod", "Pack", "ConcatV2")


def fold_sizes(graph: Graph) -> bool:
    """Replace sizes that are known by constants; whether there were any."""
    replaced = {}
    for node in graph:
        if node.op not in _FOLDED or len(graph.shapes.get(node.name, (0, 0))) > 1:
            continue
        sizes = sizes_of(graph, node.name)
        if sizes is not None and None not in sizes:
            vector = np.array(sizes, np.int64 if node.dtype("out_type") == "DT_INT64" else np.int32)
            value = vector.reshape(() if graph.shapes[node.name] == () else (-1,))
            replaced[node.name] = graph.add(constant(f"{node.name}/known", value))
            graph.shapes[replaced[node.name]] = value.shape
    graph.replace(replaced)
    graph.sort()
    return bool(replaced)


def static_reshapes(graph: Graph) -> bool:
    """Give reshapes a constant target; whether more is known about shapes than before."""
    learned = False
    for node in graph:
        if node.op != "Reshape" or graph.const(node.inputs[1]) is not None:
            continue
        shape = graph.shapes.get(node.name)
        sizes = list(shape) if shape is not None else None
        target = sizes_of(graph, node.inputs[1])
        if target is not None and (sizes is None or target.count(None) < sizes.count(None)):
            sizes, learned = target, True
        if sizes is None or sizes.count(None) > 1:
            continue
        vector = np.array([-1 if n is None else n for n in sizes], np.int32)
        node.inputs[1] = graph.add(constant(f"{node.name}/shape", vector))
        node.attrs.pop("Tshape", None)
        graph.shapes[node.name] = tuple(sizes)
    return learned


def sizes_of(graph: Graph, tensor: str, depth: int = 0) -> Sizes | None:
    """The elements of a vector or scalar of sizes as far as they are known; None if nothing is."""
    node = graph.producer(tensor)
    if node.value is not None:
        flat = node.value.ravel()
        return [int(n) for n in flat] if node.value.dtype.kind == "i" and flat.size < 64 else None
    rule = _RULES.get(node.op)
    if rule is None or depth > _MAX_DEPTH:
        return None
    return rule(graph, node, depth + 1)


def _shape(graph: Graph, node: Node, depth: int) -> Sizes | None:
    shape = graph.shapes.get(node.inputs[0])
    return None if shape is None else list(shape)


def _pack(graph: Graph, node: Node, depth: int) -> Sizes:
    parts = [sizes_of(graph, tensor, depth) for tensor in node.inputs]
    return [part[0] if part else None for part in parts]


def _concat(graph: Graph, node: Node, depth: int) -> Sizes | None:
    parts = [sizes_of(graph, tensor, depth) for tensor in node.inputs[:-1]]
    known = [part for part in parts if part is not None]
    return [n for part in known for n in part] if len(known) == len(parts) else None


def _gather(graph: Graph, node: Node, depth: int) -> Sizes | None:
    sizes, at = (sizes_of(graph, tensor, depth) for tensor in node.inputs[:2])
    if sizes is None or at is None:
        return None
    return [None if i is None else sizes[i] for i in at]


def _strided_slice(graph: Graph, node: Node, depth: int) -> Sizes | None:
    sizes = sizes_of(graph, node.inputs[0], depth)
    begin, end, step = (sizes_of(graph, tensor, depth) for tensor in node.inputs[1:])
    if sizes is None or not (begin and end and step) or len(begin) != 1:
        return None
    if node.integer("shrink_axis_mask"):
        return None if begin[0] is None else [sizes[begin[0]]]
    first = None if node.integer("begin_mask") else begin[0]
    last = None if node.integer("end_mask") else end[0]
    return sizes[first : last : step[0]]


def _prod(graph: Graph, node: Node, depth: int) -> Sizes | None:
    sizes = sizes_of(graph, node.inputs[0], depth)
    if sizes is None:
        return None
    known = [n for n in sizes if n is not None]
    return [int(np.prod(known, dtype=np.int64)) if len(known) == len(sizes) else None]


def _mul(graph: Graph, node: Node, depth: int) -> Sizes | None:
    left, right = (sizes_of(graph, tensor, depth) for tensor in node.inputs)
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return None
    return [None if left[0] is None or right[0] is None else left[0] * right[0]]


def _same(graph: Graph, node: Node, depth: int) -> Sizes | None:
    return sizes_of(graph, node.inputs[0], depth)


_RULES: dict[str, Callable[[Graph, Node, int], Sizes | None]] = {
    "Shape": _shape,
    "Pack": _pack,
    "ConcatV2": _concat,
    "GatherV2": _gather,
    "StridedSlice": _strided_slice,
    "Prod": _prod,
    "Mul": _mul,
    "Cast": _same,
    "Identity": _same,
}
