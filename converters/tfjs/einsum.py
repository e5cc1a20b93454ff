"""Writes `Einsum` of two tensors as transposes and one batched matrix product.

The wasm backend of TF.js 4.22 has no Einsum, and the others multiply out all pairs before they add.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant

Sizes = tuple[int | None, ...]


def lower_einsums(graph: Graph) -> None:
    """Replace what can be replaced; other einsums stay (repeated labels, sums, ellipses)."""
    replaced = {}
    for node in graph:
        if node.op == "Einsum" and len(node.inputs) == 2:
            result = _lower(graph, node)
            if result is not None:
                replaced[node.name] = result
    graph.replace(replaced)


@dataclass(frozen=True)
class _Plan:
    """Labels by role: in both and the result, contracted, of the left and of the right only."""

    batch: str
    contracted: str
    left: str
    right: str

    @property
    def result(self) -> str:
        return self.batch + self.left + self.right


def _lower(graph: Graph, node: Node) -> str | None:
    operands, _, result = node.text("equation").replace(" ", "").partition("->")
    labels = operands.split(",")
    shapes = [graph.shapes.get(tensor) for tensor in node.inputs]
    if "." in operands or len(labels) != 2 or shapes[0] is None or shapes[1] is None:
        return None
    sides = [(labels[0], node.inputs[0], shapes[0]), (labels[1], node.inputs[1], shapes[1])]
    plans = []
    for (left, a, sa), (right, b, sb) in (sides, sides[::-1]):
        plan = _plan(left, right, result)
        if plan is not None:
            plans.append((plan.result != result, plan, (left, a, sa), (right, b, sb)))
    if not plans:
        return None
    _, plan, (left, a, sa), (right, b, sb) = min(plans, key=lambda row: row[0])
    sizes = _sizes(left + right, sa + sb)
    groups = (plan.left, plan.contracted, plan.right)
    merged = any(len(group) != 1 for group in groups)
    if merged and any(_unknown(order, sizes) > 1 for order in _orders(plan)):
        return None
    writer = _Writer(graph, node, sizes)
    x = writer.arranged(a, left, plan.batch, plan.left, plan.contracted)
    y = writer.arranged(b, right, plan.batch, plan.contracted, plan.right)
    made = writer.product(x, y, plan)
    return writer.transposed(made, plan.result, result)


def _plan(left: str, right: str, result: str) -> _Plan | None:
    for labels in (left, right, result):
        if len(set(labels)) != len(labels):
            return None
    both = [label for label in left if label in right]
    plan = _Plan(
        "".join(label for label in result if label in both),
        "".join(label for label in both if label not in result),
        "".join(label for label in result if label in left and label not in right),
        "".join(label for label in result if label in right and label not in left),
    )
    whole = set(plan.batch + plan.contracted + plan.left + plan.right)
    return plan if whole == set(left + right) and set(result) <= whole else None


def _sizes(labels: str, shape: Sizes) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for label, size in zip(labels, shape, strict=True):
        found[label] = size if found.get(label) is None else found[label]
    return found


def _orders(plan: _Plan) -> tuple[str, ...]:
    return (
        plan.batch + plan.left + plan.contracted,
        plan.batch + plan.contracted + plan.right,
        plan.result,
    )


def _unknown(labels: str, sizes: dict[str, int | None]) -> int:
    return sum(sizes[label] is None for label in labels)


class _Writer:
    def __init__(self, graph: Graph, node: Node, sizes: dict[str, int | None]) -> None:
        self._graph, self._node, self._sizes = graph, node, sizes
        self._type = {"T": node.attrs["T"]}

    def arranged(self, tensor: str, labels: str, batch: str, rows: str, columns: str) -> str:
        """A tensor as a batch of matrices."""
        tensor = self.transposed(tensor, labels, batch + rows + columns)
        if len(rows) == 1 and len(columns) == 1:
            return tensor
        return self._reshaped(tensor, [*batch, rows, columns])

    def product(self, x: str, y: str, plan: _Plan) -> str:
        """The batched matrix product, with the axes of the result apart again."""
        name = f"{self._node.name}/MatMul"
        made = self._add(Node(name, "BatchMatMulV2", [x, y], self._type), plan.result)
        if len(plan.left) == 1 and len(plan.right) == 1:
            return made
        return self._reshaped(made, list(plan.result))

    def transposed(self, tensor: str, labels: str, wanted: str) -> str:
        """A tensor with its axes in another order; a constant is transposed here."""
        if labels == wanted:
            return tensor
        order = [labels.index(label) for label in wanted]
        value = self._graph.const(tensor)
        if value is not None:
            return self._graph.add(constant(f"{tensor}/transposed", value.transpose(order)))
        perm = constant(f"{self._node.name}/perm", np.array(order, np.int32))
        inputs = [tensor, self._graph.add(perm)]
        return self._add(
            Node(f"{self._node.name}/Transpose", "Transpose", inputs, self._type), wanted
        )

    def _reshaped(self, tensor: str, groups: list[str]) -> str:
        sizes = [self._size(group) for group in groups]
        vector = constant(f"{self._node.name}/shape", np.array(sizes, np.int32))
        node = Node(f"{self._node.name}/Reshape", "Reshape", [tensor], self._type)
        node.inputs.append(self._graph.add(vector))
        name = self._graph.add(node)
        self._graph.shapes[name] = tuple(None if n == -1 else n for n in sizes)
        return name

    def _size(self, group: str) -> int:
        known = [self._sizes[label] for label in group]
        return -1 if None in known else prod(n for n in known if n is not None)

    def _add(self, node: Node, labels: str) -> str:
        name = self._graph.add(node)
        self._graph.shapes[name] = tuple(self._sizes[label] for label in labels)
        return name
