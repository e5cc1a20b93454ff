"""Reads a TF.js graph-model into TensorFlow and writes it as a SavedModel."""

import re
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.converters.tfjs.graph import Graph, node_of, reference
from pipcook_deploy.converters.tfjs.graph_reader import read_graph
from pipcook_deploy.converters.tfjs.import_check import check_importable
from pipcook_deploy.converters.tfjs.import_types import settle_types
from pipcook_deploy.converters.tfjs.tf_graph import to_graph_def
from pipcook_deploy.converters.tfjs.unfuse import unfuse
from pipcook_deploy.errors import SourceError, UnsupportedConversionError
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_export import save_as_default
from pipcook_deploy.saved_model_names import parameter_names

_PREFIX = "model"  # of the nodes, so that none can have the name of a parameter
_FOREIGN = re.compile(r"[^A-Za-z0-9_.\\/>-]")  # what TensorFlow has not in names of nodes


def import_graph(model: Model, into: Path) -> Artifact:
    """Write the TF.js graph-model `model` below `into`; the keys of `serving_default` are the spec's names.

    Raises `UnsupportedConversionError`, naming operations and nodes, for what TensorFlow or this importer
    has not, before anything is built; `SourceError` for a damaged graph.
    """
    graph = read_graph(model)
    graph_def = prepared(model, graph)
    try:
        return _export(model, graph, graph_def, into)
    except ValueError as error:  # shapes or attributes that do not fit, told with the node
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedConversionError(
            f"{model.path}: TensorFlow does not take this graph: {reason[:300]}"
        ) from error


def prepared(model: Model, graph: Graph) -> Any:
    """TensorFlow's GraphDef of the graph of `model`, which is changed in place; its constants stay nodes.

    Raises as `import_graph`.
    """
    from google.protobuf.json_format import ParseError

    try:
        check_importable(graph)
        unfuse(graph)
        settle_types(graph)
        tidy_names(graph)
        return to_graph_def(graph)
    except (ParseError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{model.path}: a damaged graph: {error}") from error
    except SourceError as error:
        raise SourceError(f"{model.path}: {error.message}", error.hint) from error


def tidy_names(graph: Graph) -> None:
    """Replace the characters that names in TensorFlow cannot have."""
    changed = {}
    for node in graph:
        if _FOREIGN.search(node.name):
            old, node.name = node.name, graph.free_name(_FOREIGN.sub("_", node.name))
            changed[old] = node.name
            graph.nodes[node.name] = graph.nodes.pop(old)

    def new(tensor: str) -> str:
        name, _, index = tensor.partition(":")
        return reference(changed.get(name, name), int(index or 0))

    for node in graph:
        node.inputs = [new(tensor) for tensor in node.inputs]
    graph.inputs = {name: new(tensor) for name, tensor in graph.inputs.items()}
    graph.outputs = {name: new(tensor) for name, tensor in graph.outputs.items()}
    graph.sort()


def _export(model: Model, graph: Graph, graph_def: Any, into: Path) -> Artifact:
    import tensorflow as tf

    parameters = parameter_names(graph.inputs)
    specs = []
    for name, tensor in graph.inputs.items():
        attrs = next(node.attr for node in graph_def.node if node.name == node_of(tensor))
        shape = tf.TensorShape(attrs["shape"].shape) if "shape" in attrs else None
        specs.append(tf.TensorSpec(shape, attrs["dtype"].type, name=parameters[name]))

    def serve(*tensors: Any) -> dict[str, Any]:
        given = dict(zip(map(_numbered, graph.inputs.values()), tensors, strict=True))
        wanted = [_numbered(tensor) for tensor in graph.outputs.values()]
        found = tf.graph_util.import_graph_def(graph_def, given, wanted, name=_PREFIX)
        return dict(zip(graph.outputs, map(tf.identity, found), strict=True))

    named = dict(zip(graph.inputs, specs, strict=True))
    return save_as_default(model, serve, named, list(graph.outputs), into)


def _numbered(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"
