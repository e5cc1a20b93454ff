"""A dataflow graph that passes can rewrite: TensorFlow's GraphDef as plain Python, without TensorFlow.

A tensor is a reference: the name of the node, with `:1`, `:2`... for an output that is not the first.
Attributes are in the protobuf-JSON form that `model.json` has: `{"type": "DT_FLOAT"}`, `{"i": "3"}`.
Control edges are not kept: what does not lead to an output by data is not part of the model.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Attr = dict[str, Any]


def node_of(reference: str) -> str:
    """The node that makes a tensor."""
    return reference.split(":")[0]


def index_of(reference: str) -> int:
    """Which of the node's outputs a tensor is."""
    return int(reference.split(":")[1]) if ":" in reference else 0


def reference(node: str, index: int = 0) -> str:
    """The tensor that is output `index` of a node."""
    return f"{node}:{index}" if index else node


@dataclass
class Node:
    """One operation. `value` is set for `Const` and for nothing else."""

    name: str
    op: str
    inputs: list[str] = field(default_factory=list)
    attrs: dict[str, Attr] = field(default_factory=dict)
    value: Array | None = None

    def integer(self, name: str, default: int = 0) -> int:
        """An int attribute."""
        return int(self.attrs.get(name, {}).get("i", default))

    def integers(self, name: str) -> list[int]:
        """A list(int) attribute; an absent one is empty."""
        return [int(i) for i in self.attrs.get(name, {}).get("list", {}).get("i", [])]

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        return float(self.attrs.get(name, {}).get("f", default))

    def flag(self, name: str, default: bool = False) -> bool:
        """A bool attribute."""
        return bool(self.attrs.get(name, {}).get("b", default))

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        value = self.attrs.get(name, {}).get("s")
        return default if value is None else base64.b64decode(value).decode()

    def dtype(self, name: str = "T") -> str:
        """A type attribute, "DT_FLOAT"; empty if it is not told."""
        return str(self.attrs.get(name, {}).get("type", ""))


def text_attr(value: str) -> Attr:
    """A string attribute."""
    return {"s": base64.b64encode(value.encode()).decode()}


def texts_attr(values: Sequence[str]) -> Attr:
    """A list(string) attribute."""
    return {"list": {"s": [base64.b64encode(v.encode()).decode() for v in values]}}


_TYPES = {
    "float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF", "int32": "DT_INT32",
    "int64": "DT_INT64", "bool": "DT_BOOL", "uint8": "DT_UINT8", "int8": "DT_INT8",
    "int16": "DT_INT16", "uint16": "DT_UINT16", "uint32": "DT_UINT32", "uint64": "DT_UINT64",
    "complex64": "DT_COMPLEX64", "complex128": "DT_COMPLEX128", "bfloat16": "DT_BFLOAT16",
}  # fmt: skip


def type_attr(value: Array) -> Attr:
    """The type attribute of an array."""
    return {"type": _TYPES.get(value.dtype.name, "DT_STRING")}


def constant(name: str, value: Array) -> Node:
    """A `Const` node."""
    return Node(name, "Const", [], {"dtype": type_attr(value)}, value)


class Graph:
    """Nodes by name in the order of insertion, and the tensors that are the model's interface.

    `inputs` and `outputs` map the spec's names to tensors. `shapes` has what is known about tensors
    from TensorFlow's shape inference (None: unknown size); a tensor may be absent.
    """

    def __init__(
        self,
        nodes: Iterable[Node] = (),
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.inputs = dict(inputs or {})
        self.outputs = dict(outputs or {})
        self.shapes: dict[str, tuple[int | None, ...]] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self.nodes.values()))

    def __len__(self) -> int:
        return len(self.nodes)

    def producer(self, tensor: str) -> Node:
        """The node that makes a tensor."""
        return self.nodes[node_of(tensor)]

    def add(self, node: Node) -> str:
        """Add a node under a free name that starts with its own; returns its first output."""
        node.name = self.free_name(node.name)
        self.nodes[node.name] = node
        return node.name

    def free_name(self, wanted: str) -> str:
        """`wanted`, or that with the first free number."""
        name, number = wanted, 1
        while name in self.nodes:
            name, number = f"{wanted}_{number}", number + 1
        return name

    def const(self, tensor: str) -> Array | None:
        """The value of a tensor that is a constant."""
        return self.producer(tensor).value

    def users(self) -> dict[str, list[Node]]:
        """The nodes that read something of each node, once per input that does."""
        found: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for tensor in node.inputs:
                found[node_of(tensor)].append(node)
        return found

    def is_output(self, node: Node) -> bool:
        """Whether a tensor of the node is an output of the model."""
        return any(node_of(tensor) == node.name for tensor in self.outputs.values())

    def replace(self, replaced: Mapping[str, str]) -> None:
        """Read `replaced[t]` instead of tensor t, everywhere; chains are followed."""
        if not replaced:
            return

        def final(tensor: str) -> str:
            while tensor in replaced:
                tensor = replaced[tensor]
            return tensor

        for node in self.nodes.values():
            node.inputs = [final(tensor) for tensor in node.inputs]
        self.outputs = {name: final(tensor) for name, tensor in self.outputs.items()}

    def sort(self) -> None:
        """Keep what the outputs need, and the inputs; producers first, in an order that only the
        graph decides, whatever order the nodes had."""
        order: dict[str, Node] = {}
        for tensor in self.inputs.values():
            order[node_of(tensor)] = self.producer(tensor)
        for tensor in self.outputs.values():
            self._visit(node_of(tensor), order)
        self.nodes = order

    def _visit(self, root: str, order: dict[str, Node]) -> None:
        stack = [(root, False)]
        while stack:
            name, ready = stack.pop()
            if name in order:
                continue
            if ready:
                order[name] = self.nodes[name]
                continue
            stack.append((name, True))
            inputs = [node_of(tensor) for tensor in self.nodes[name].inputs]
            stack.extend((i, False) for i in reversed(inputs) if i not in order)
