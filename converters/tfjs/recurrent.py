"""Moves what the steps of a written-out recurrent layer have in common before the steps."""

from collections import defaultdict

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, reference

_PRODUCTS = ("MatMul", "_FusedMatMul")


def hoist_step_products(graph: Graph) -> None:
    """One product with the weights for all time steps, instead of one for each.

    Unpack(x) and x[t] W for every t becomes Unpack(x W). Expects fused biases.
    """
    users = graph.users()
    replaced: dict[str, str] = {}
    for unpack in graph:
        if unpack.op == "Unpack" and unpack.integer("axis") == 0:
            for products in _groups(graph, unpack, users[unpack.name]).values():
                if len(products) > 1:
                    replaced |= _hoist(graph, unpack, products)
    graph.replace(replaced)


def _groups(
    graph: Graph, unpack: Node, readers: list[Node]
) -> dict[tuple[str, ...], list[tuple[int, Node]]]:
    """Products of single steps with equal weights, and the step of each."""
    found: dict[tuple[str, ...], list[tuple[int, Node]]] = defaultdict(list)
    steps = {reference(unpack.name, i): i for i in range(unpack.integer("num"))}
    for node in readers:
        turned = node.flag("transpose_a") or node.flag("transpose_b")
        plain = node.op in _PRODUCTS and not turned
        if plain and node.inputs[0] in steps and graph.const(node.inputs[1]) is not None:
            key = (node.op, *node.inputs[1:], str(sorted(node.attrs.items(), key=str)))
            found[key].append((steps[node.inputs[0]], node))
    return found


def _hoist(graph: Graph, unpack: Node, products: list[tuple[int, Node]]) -> dict[str, str]:
    first = products[0][1]
    shape = graph.shapes.get(unpack.inputs[0])
    weights = graph.const(first.inputs[1])
    if shape is None or len(shape) != 3 or weights is None:
        return {}
    steps = unpack.integer("num")
    scope = f"{unpack.name.rpartition('/')[0]}/{first.name.rpartition('/')[2]}"
    dtype = {"T": first.attrs["T"]}
    flat = _reshape(graph, f"{scope}/rows", unpack.inputs[0], [-1, weights.shape[0]], dtype)
    product = graph.add(
        Node(f"{scope}/all_steps", first.op, [flat, *first.inputs[1:]], first.attrs)
    )
    apart = _reshape(graph, f"{scope}/steps", product, [steps, -1, weights.shape[1]], dtype)
    name = graph.add(Node(f"{scope}/unstack", "Unpack", [apart], unpack.attrs))
    return {node.name: reference(name, step) for step, node in products}


def _reshape(
    graph: Graph, name: str, tensor: str, sizes: list[int], dtype: dict[str, dict[str, object]]
) -> str:
    vector = graph.add(constant(f"{name}/shape", np.array(sizes, np.int32)))
    return graph.add(Node(name, "Reshape", [tensor, vector], dtype))
