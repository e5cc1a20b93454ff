"""Follows TensorLists while loops are written out: TF.js gets the plain tensors that they hold."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, reference
from pipcook_deploy.errors import UnsupportedConversionError


@dataclass(frozen=True)
class TensorList:
    """What a TensorList handle stands for. An item that was not written yet is None.

    `unpack` is the node that makes the items of a list that a tensor was split into: how many they are
    may be known only from what is read, so its list of items is open.
    """

    items: tuple[str | None, ...]
    dtype: str
    element_shape: tuple[int, ...] = ()
    unpack: str | None = None


Value = str | TensorList


class Writer(Protocol):
    """What the handlers need of who writes the graph."""

    graph: Graph

    def known(self, value: Value) -> np.ndarray | None:
        """The value of a tensor that is known before the model runs."""

    def size(self, tensor: str, axis: int) -> int | None:
        """A size of a written tensor."""


def as_tensor(value: Value, where: str) -> str:
    if isinstance(value, TensorList):
        raise UnsupportedConversionError(f"{where}: a TensorList is used as a tensor")
    return value


def _list_of(node: Node, value: Value) -> TensorList:
    """A list that is followed; anything else ends the conversion."""
    if not isinstance(value, TensorList):
        raise UnsupportedConversionError(f"{node.name}: a TensorList of unknown origin")
    return value


def _integer(writer: Writer, node: Node, value: Value) -> int:
    """An index or a size that must be known."""
    known = writer.known(value)
    if known is None:
        raise UnsupportedConversionError(
            f"{node.name} ({node.op}): the size or the index depends on the input",
            "export the model with a fixed number of time steps",
        )
    return int(known)


def _item(writer: Writer, node: Node, found: TensorList, index: int) -> str:
    """An item of a list; one that was never written is zeros."""
    if found.unpack is not None:
        unpack = writer.graph.nodes[found.unpack]
        unpack.attrs["num"] = {"i": str(max(unpack.integer("num"), index + 1))}
        return reference(found.unpack, index)
    if not 0 <= index < len(found.items):
        raise UnsupportedConversionError(f"{node.name}: item {index} of {len(found.items)}")
    written = found.items[index]
    if written is not None:
        return written
    if not found.element_shape or min(found.element_shape) < 0:
        other = next((item for item in found.items if item is not None), None)
        if other is None:
            raise UnsupportedConversionError(f"{node.name}: reads an item of unknown shape")
        return writer.graph.add(Node(node.name, "ZerosLike", [other], {"T": {"type": found.dtype}}))
    dtype = np.float32 if found.dtype == "DT_FLOAT" else np.int32
    return writer.graph.add(constant(node.name, np.zeros(found.element_shape, dtype)))


def _shape(writer: Writer, value: Value) -> tuple[int, ...]:
    known = writer.known(value)
    return () if known is None or known.ndim == 0 else tuple(int(n) for n in known)


def _reserve(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    size = _integer(writer, node, inputs[1])
    shape = _shape(writer, inputs[0])
    return [TensorList((None,) * size, node.dtype("element_dtype"), shape)]


def _empty(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    return [TensorList((), node.dtype("element_dtype"), _shape(writer, inputs[0]))]


def _from_tensor(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    tensor = as_tensor(inputs[0], node.name)
    dtype = node.dtype("element_dtype")
    size = writer.size(tensor, 0) or 0
    attrs = {"num": {"i": str(size)}, "axis": {"i": "0"}, "T": {"type": dtype}}
    unpack = writer.graph.add(Node(f"{node.name}/unstack", "Unpack", [tensor], attrs))
    return [TensorList((), dtype, unpack=unpack)]


def _get_item(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    found = _list_of(node, inputs[0])
    return [_item(writer, node, found, _integer(writer, node, inputs[1]))]


def _set_item(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    found, index = _list_of(node, inputs[0]), _integer(writer, node, inputs[1])
    items = list(found.items) + [None] * (index + 1 - len(found.items))
    items[index] = as_tensor(inputs[2], node.name)
    return [replace(found, items=tuple(items))]


def _push(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    found = _list_of(node, inputs[0])
    return [replace(found, items=(*found.items, as_tensor(inputs[1], node.name)))]


def _stack(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    found = _list_of(node, inputs[0])
    if found.unpack is not None:
        return [writer.graph.nodes[found.unpack].inputs[0]]
    items = [_item(writer, node, found, index) for index in range(len(found.items))]
    attrs = {"N": {"i": str(len(items))}, "axis": {"i": "0"}, "T": {"type": found.dtype}}
    return [writer.graph.add(Node(node.name, "Pack", items, attrs))]


def _length(writer: Writer, node: Node, inputs: list[Value]) -> list[Value]:
    found = _list_of(node, inputs[0])
    return [writer.graph.add(constant(node.name, np.asarray(len(found.items), np.int32)))]


HANDLERS: dict[str, Callable[[Writer, Node, list[Value]], list[Value]]] = {
    "TensorListReserve": _reserve,
    "EmptyTensorList": _empty,
    "TensorListFromTensor": _from_tensor,
    "TensorListGetItem": _get_item,
    "TensorListSetItem": _set_item,
    "TensorListPushBack": _push,
    "TensorListStack": _stack,
    "TensorListLength": _length,
}
