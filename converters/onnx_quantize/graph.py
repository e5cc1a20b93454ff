"""An ONNX graph with its edges: who makes a tensor, who reads it, which values are known."""

from collections import Counter
from typing import Any

from pipcook_deploy.converters.onnx_names import all_nodes

FLOAT = 1  # TensorProto.FLOAT


class Edges:
    """Makers, readers and constants of the outer graph; call again after the graph was changed.

    `shared` are tensors that loops and branches read from outside: nothing is known of their readers.
    """

    def __init__(self, proto: Any) -> None:
        graph = proto.graph
        self.graph = graph
        self.maker = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        outer = {id(node) for node in graph.node}
        self.shared = {
            name for node in all_nodes(graph) if id(node) not in outer for name in node.input
        }
        self.types, self.shapes = _described(graph)

    def only_reader(self, name: str) -> Any:
        """The one node that reads a tensor, None if there are more or it leaves the graph."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.outputs or name in self.shared:
            return None
        return readers[0]

    def made_by(self, name: str) -> Any:
        """The node that makes a tensor; None for inputs and constants."""
        return self.maker.get(name)

    def value(self, name: str) -> Any:
        """A constant as an array; None for what is computed."""
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_float(self, name: str) -> bool:
        """Whether a tensor that is computed, or an input, is known to be float32."""
        return name not in self.constants and self.types.get(name) == FLOAT

    def rank(self, name: str) -> int | None:
        """How many axes a tensor has, if that is known."""
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)


def _described(graph: Any) -> tuple[dict[str, int], dict[str, tuple[Any, ...]]]:
    types: dict[str, int] = {}
    shapes: dict[str, tuple[Any, ...]] = {}
    for row in (*graph.input, *graph.value_info, *graph.output):
        tensor = row.type.tensor_type
        types[row.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[row.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
                for dim in tensor.shape.dim
            )
    for tensor in graph.initializer:
        types[tensor.name], shapes[tensor.name] = tensor.data_type, tuple(tensor.dims)
    return types, shapes


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """An attribute's value; lists as lists."""
    from onnx import helper

    for row in node.attribute:
        if row.name == name:
            value = helper.get_attribute_value(row)
            return list(value) if row.type in (6, 7) else value
    return default


def set_attribute(node: Any, name: str, value: Any) -> None:
    """Set an attribute, replacing an older value."""
    from onnx import helper

    for index, row in enumerate(node.attribute):
        if row.name == name:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(name, value))


def add_constant(proto: Any, name: str, value: Any) -> str:
    """Add an initializer; returns its name."""
    from onnx import numpy_helper

    proto.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def set_constant(edges: Edges, name: str, value: Any) -> None:
    """Replace the value of an initializer."""
    from onnx import numpy_helper

    edges.constants[name].CopyFrom(numpy_helper.from_array(value, name))


def remove_nodes(proto: Any, nodes: list[Any]) -> None:
    """Take nodes out of the outer graph."""
    gone = {id(node) for node in nodes}
    kept = [node for node in proto.graph.node if id(node) not in gone]
    replace_nodes(proto, kept)


def replace_nodes(proto: Any, nodes: list[Any]) -> None:
    """The outer graph's nodes anew, in this order."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def drop_unused(proto: Any) -> None:
    """Remove initializers that nothing reads."""
    edges = Edges(proto)
    used = {name for node in all_nodes(proto.graph) for name in node.input} | edges.outputs
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def opset(proto: Any) -> int:
    """Version of the default operator set."""
    versions = [row.version for row in proto.opset_import if row.domain in ("", "ai.onnx")]
    return int(versions[0]) if versions else 0


def name_nodes(proto: Any) -> None:
    """Give every node of the outer graph a name of its own: `Conv_3`."""
    nodes = proto.graph.node
    taken = Counter(node.name for node in nodes)
    for number, node in enumerate(nodes):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.op_type}_{number}"
