"""Gives every tensor of a TF.js graph one type again.

TF.js has five types. It keeps int64 as int32, but the attributes of a `model.json` may still say int64, and
its operations take operands of different types. Here every tensor gets the type that it has in TF.js, the
attributes follow, and casts stand where an operation of TensorFlow insists on another type.
"""

from collections.abc import Iterable
from typing import Any

from pipcook_deploy.converters.tfjs.graph import Graph, Node, reference, type_attr
from pipcook_deploy.converters.tfjs.simplify import TFJS_TYPES
from pipcook_deploy.errors import SourceError, UnsupportedConversionError

# From narrow to wide, as tfjs-core's `upcastType` has them.
_WIDTHS = ("DT_BOOL", "DT_INT32", "DT_FLOAT", "DT_COMPLEX64")
_FALLBACKS = ("DT_INT32", "DT_FLOAT", "DT_INT64")
_INTEGERS = ("DT_INT32", "DT_BOOL")


def settle_types(graph: Graph) -> None:
    """In place, over nodes in order: producers first; the inputs keep the types of TF.js."""
    _Settler(graph).run()


class _Settler:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types: dict[str, str] = {}
        self.casts: dict[tuple[str, str], str] = {}
        self.replaced: dict[str, str] = {}

    def run(self) -> None:
        for node in self.graph:
            if node.value is not None:
                self.types[node.name] = type_attr(node.value)["type"]
            elif node.op == "Placeholder":
                self._settle_input(node)
            else:
                self._settle(node)
        self.graph.outputs = {n: self.replaced.get(t, t) for n, t in self.graph.outputs.items()}
        self.graph.sort()

    def _settle_input(self, node: Node) -> None:
        """Callers give uint8 for pixels; to the graph they are int32."""
        own = node.dtype("dtype")
        dtype = own if own == "DT_UINT8" else _tfjs(own)
        node.attrs["dtype"] = {"type": dtype}
        self.types[node.name] = dtype
        if dtype != _tfjs(dtype):
            self.replaced[node.name] = self._cast(node.name, _tfjs(dtype))

    def _settle(self, node: Node) -> None:
        node.inputs = [self.replaced.get(tensor, tensor) for tensor in node.inputs]
        absent = [tensor for tensor in node.inputs if tensor not in self.types]
        if absent:
            raise SourceError(f"{node.name!r} reads {absent[0]!r}, which is not there")
        self._follow_tfjs(node)
        definition = op_definition(node.op)
        attrs = {attr.name: attr for attr in definition.attr}
        node.attrs = {name: attr for name, attr in node.attrs.items() if name in attrs}
        for name, attr in attrs.items():
            if attr.type == "type":
                _settle_attr(node, name, attr)
        self._settle_inputs(node, definition, attrs)
        self._settle_outputs(node, definition)

    def _follow_tfjs(self, node: Node) -> None:
        """Where TF.js computes otherwise with integers."""
        if not node.inputs or any(self.types[t] not in _INTEGERS for t in node.inputs):
            return
        if node.op in ("Div", "RealDiv"):
            node.op = "FloorDiv"
        elif node.op == "Mean":
            node.inputs[0] = self._cast(node.inputs[0], "DT_FLOAT")

    def _settle_inputs(self, node: Node, definition: Any, attrs: dict[str, Any]) -> None:
        slots = _slots(node, definition.input_arg)
        if len(slots) != len(node.inputs):
            raise UnsupportedConversionError(
                f"{node.op} has {len(slots)} inputs in TensorFlow, not {len(node.inputs)}: {node.name}"
            )
        by_attr: dict[str, list[str]] = {}
        for arg, tensor in zip(slots, node.inputs, strict=True):
            by_attr.setdefault(arg.type_attr or arg.type_list_attr, []).append(self.types[tensor])
        for name, found in by_attr.items():
            if name and attrs[name].type == "type":
                node.attrs[name] = {"type": _allowed(_widest(found), attrs[name])}
            elif name:
                node.attrs[name] = {"list": {"type": found}}
        for index, arg in enumerate(slots):
            if not arg.type_list_attr:
                wanted = node.dtype(arg.type_attr) if arg.type_attr else _name(arg.type)
                node.inputs[index] = self._cast(node.inputs[index], wanted)

    def _settle_outputs(self, node: Node, definition: Any) -> None:
        index = 0
        for arg in definition.output_arg:
            if arg.type_list_attr:
                types = [str(t) for t in node.attrs[arg.type_list_attr]["list"]["type"]]
            else:
                one = node.dtype(arg.type_attr) if arg.type_attr else _name(arg.type)
                types = [one] * (node.integer(arg.number_attr) if arg.number_attr else 1)
            for dtype in types:
                tensor = reference(node.name, index)
                self.types[tensor] = dtype
                if _tfjs(dtype) != dtype:
                    self.replaced[tensor] = self._cast(tensor, _tfjs(dtype))
                index += 1

    def _cast(self, tensor: str, wanted: str) -> str:
        """`tensor` as the type `wanted`; a tensor that has it already is returned."""
        have = self.types[tensor]
        if have == wanted or "DT_STRING" in (have, wanted):
            return tensor  # TensorFlow will say what does not fit
        if (tensor, wanted) not in self.casts:
            attrs = {"SrcT": {"type": have}, "DstT": {"type": wanted}}
            name = f"{tensor.replace(':', '_')}/{wanted.removeprefix('DT_').lower()}"
            made = self.graph.add(Node(name, "Cast", [tensor], attrs))
            self.types[made], self.casts[tensor, wanted] = wanted, made
        return self.casts[tensor, wanted]


def op_definition(op: str) -> Any:
    """TensorFlow's OpDef of an operation; None if it has no such operation."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def _slots(node: Node, args: Iterable[Any]) -> list[Any]:
    """The argument that each input belongs to."""
    found: list[Any] = []
    for arg in args:
        count = 1
        if arg.number_attr:
            count = node.integer(arg.number_attr)
        elif arg.type_list_attr:
            count = len(node.attrs.get(arg.type_list_attr, {}).get("list", {}).get("type", []))
        found.extend([arg] * count)
    return found


def _settle_attr(node: Node, name: str, attr: Any) -> None:
    """A type attribute as TF.js reads it, unless TensorFlow does not take that."""
    own = node.dtype(name) or (_name(attr.default_value.type) if attr.default_value.type else "")
    if own:
        mapped = _tfjs(own)
        node.attrs[name] = {"type": mapped if _allowed(mapped, attr) == mapped else own}


def _allowed(dtype: str, attr: Any) -> str:
    """`dtype`, or the type that TensorFlow can do this in."""
    allowed = [_name(number) for number in attr.allowed_values.list.type]
    if not allowed or dtype in allowed:
        return dtype
    wider = [t for t in _FALLBACKS if t in allowed]
    return wider[0] if dtype == "DT_BOOL" and wider else next((t for t in wider[1:]), dtype)


def _widest(types: list[str]) -> str:
    if any(t not in _WIDTHS for t in types):
        return types[0]
    return max(types, key=_WIDTHS.index)


def _tfjs(dtype: str) -> str:
    return TFJS_TYPES.get(dtype, dtype)


def _name(number: int) -> str:
    from tensorflow.core.framework.types_pb2 import DataType

    return str(DataType.Name(number))
