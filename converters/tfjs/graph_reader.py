"""Reads a TF.js graph-model as a `Graph`: nodes from its JSON, constants from its shards. No TensorFlow."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, node_of, reference
from pipcook_deploy.errors import ConversionError, SourceError
from pipcook_deploy.formats.tfjs_model import TfjsModel, read_model
from pipcook_deploy.model import Model
from pipcook_deploy.spec import TensorSpec

# tensorflow/core/framework/types.proto; some writers give the number.
_NUMBERED_TYPES = {
    1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8",
    7: "DT_STRING", 8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 14: "DT_BFLOAT16",
    17: "DT_UINT16", 18: "DT_COMPLEX128", 19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT",
}  # fmt: skip
_INPUTS = ("Placeholder", "PlaceholderWithDefault")


def read_graph(model: Model) -> Graph:
    """What the outputs of the spec need, in no order yet; it may hold any operation, loops too.

    An input of the spec is a `Placeholder` without attributes but its `dtype` and, where the rank is
    known, its `shape`. Raises `SourceError` for a damaged graph, `ConversionError` for an input or output
    of the spec that the graph has not.
    """
    source = read_model(model.path)
    try:
        graph = Graph(_nodes(source))
        _check_inputs(graph)
        _interface(graph, model, source)
        _needed(graph)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise SourceError(f"{model.path}: a damaged graph: {error}") from error
    except SourceError as error:
        raise SourceError(f"{model.path}: {error.message}", error.hint) from error
    return graph


def _nodes(source: TfjsModel) -> Iterable[Node]:
    seen: set[str] = set()
    for row in source.topology["node"]:
        name, op = row["name"], row["op"]
        if name in seen:
            raise SourceError(f"the node {name!r} is there twice")
        seen.add(name)
        if op == "Const":
            if name not in source.weights:
                raise SourceError(f"the constant {name!r} has no weight")
            yield constant(name, source.weights[name])
            continue
        tensors = [_tensor(tensor) for tensor in row.get("input", []) if tensor[0] != "^"]
        attrs = {str(key): attribute(value) for key, value in row.get("attr", {}).items()}
        yield Node(name, op, tensors, {key: value for key, value in attrs.items() if value})


def _tensor(tensor: str) -> str:
    node, _, index = tensor.partition(":")
    return reference(node, int(index or 0))


def attribute(attr: dict[str, Any]) -> dict[str, Any]:
    """An attribute as protobuf-JSON has it: texts as base64, types by name.

    Old writers give texts as lists of byte values and types as numbers. Raises `ValueError`, `TypeError`.
    """
    if "list" in attr:
        rows = {key: list(values) for key, values in attr["list"].items()}
        for key, normal in (("s", _text), ("type", _type)):
            if key in rows:
                rows[key] = [normal(value) for value in rows[key]]
        return {"list": rows}
    if "s" in attr:
        return {"s": _text(attr["s"])}
    return {"type": _type(attr["type"])} if "type" in attr else dict(attr)


def _text(value: str | list[int]) -> str:
    if isinstance(value, list):
        return base64.b64encode(bytes(value)).decode()
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{value[:40]!r} is not base64") from error
    return value


def _type(value: str | int) -> str:
    return value if isinstance(value, str) else _NUMBERED_TYPES[value]


def _check_inputs(graph: Graph) -> None:
    for node in graph:
        for tensor in node.inputs:
            if node_of(tensor) not in graph.nodes:
                raise SourceError(f"{node.name!r} reads {tensor!r}, which is not there")


def _interface(graph: Graph, model: Model, source: TfjsModel) -> None:
    graph.inputs = _tensors(graph, source, model.spec.inputs, "inputs")
    graph.outputs = _tensors(graph, source, model.spec.outputs, "outputs")
    told = (source.signature or {}).get("inputs") or {}
    for spec in model.spec.inputs:
        node = graph.producer(graph.inputs[spec.name])
        if node.op not in _INPUTS:
            raise ConversionError(f"{model.path}: the input {spec.name!r} is no placeholder")
        attrs = {"dtype": node.attrs["dtype"]}
        if shape := _shape(spec, told.get(spec.name), node):
            attrs["shape"] = shape
        node.op, node.inputs, node.attrs = "Placeholder", [], attrs


def _tensors(
    graph: Graph, source: TfjsModel, specs: Iterable[TensorSpec], side: str
) -> dict[str, str]:
    told = (source.signature or {}).get(side) or {}
    found = {}
    for spec in specs:
        tensor = _tensor(str(told.get(spec.name, {}).get("name") or spec.name))
        if node_of(tensor) not in graph.nodes:
            raise ConversionError(
                f"the graph has no tensor {tensor!r} for {side[:-1]} {spec.name!r}"
            )
        found[spec.name] = tensor
    return found


def _shape(spec: TensorSpec, told: dict[str, Any] | None, node: Node) -> dict[str, Any] | None:
    """The spec's shape; where the signature tells no rank, the spec has one for show: the node's own."""
    shape = (told or {}).get("tensorShape")
    if isinstance(shape, dict) and not shape.get("unknownRank"):
        sizes = [-1 if size is None else size for size in spec.shape]
        return {"shape": {"dim": [{"size": str(size)} for size in sizes]}}
    return node.attrs.get("shape")


def _needed(graph: Graph) -> None:
    """Keep the inputs and what leads to an output."""
    waiting = [node_of(tensor) for tensor in graph.outputs.values()]
    kept = {node_of(tensor) for tensor in graph.inputs.values()}
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting.extend(node_of(tensor) for tensor in graph.nodes[name].inputs)
    graph.nodes = {name: node for name, node in graph.nodes.items() if name in kept}
