"""From a SavedModel to a `Graph`: frozen, loops unrolled, optimized by grappler."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.converters.tfjs.graph import Graph, Node, constant, node_of, reference
from pipcook_deploy.converters.tfjs.inline import Function, inline
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_io import Serving, open_signature
from pipcook_deploy.spec import ModelSpec

# "remap" is left out: it fuses into operations that TF.js lacks; `fuse` does what TF.js has.
_OPTIMIZERS = (
    "constfold",
    "shape",
    "arithmetic",
    "dependency",
    "pruning",
    "constfold",
    "dependency",
)


@dataclass(frozen=True)
class Interface:
    """One tensor of a signature: the spec's name, TensorFlow's dtype and shape."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


def load_graph(
    folder: Path, signature: str | None, unroll_limit: int
) -> tuple[Graph, list[Interface], list[Interface]]:
    """The graph of a SavedModel's signature, and its interface in the signature's order.

    Raises `SourceError` for a signature that is not there and `ConversionError` for a loop whose number
    of steps the model does not fix.
    """
    return graph_of(_open(folder, signature), unroll_limit)


def graph_of(serving: Serving, unroll_limit: int) -> tuple[Graph, list[Interface], list[Interface]]:
    """The same of an opened signature."""
    frozen, inputs, outputs = _freeze(serving)
    graph = from_graph_def(frozen.graph_def)
    graph.shapes = _static_shapes(frozen.graph)
    graph.inputs = {i.name: node_of(t) for i, t in inputs}
    graph.outputs = {o.name: _flat(t) for o, t in outputs}
    functions = {f.signature.name: _function(f) for f in frozen.graph_def.library.function}
    graph = inline(graph, functions, unroll_limit, infer_shapes)
    optimize(graph)
    return graph, [i for i, _ in inputs], [o for o, _ in outputs]


@dataclass(frozen=True)
class _Frozen:
    graph_def: Any
    graph: Any


def _open(folder: Path, signature: str | None) -> Serving:
    return open_signature(Model(folder, "saved_model", ModelSpec(), signature=signature))


def _freeze(
    serving: Serving,
) -> tuple[_Frozen, list[tuple[Interface, str]], list[tuple[Interface, str]]]:
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(serving.function, lower_control_flow=False)
    # Freezing keeps the names of the inputs; outputs are in the order of sorted keys.
    tensors = serving.tensors()
    inputs = [(_interface(name, spec), tensors[name]) for name, spec in serving.inputs]
    outputs = [
        (_interface(name, spec), tensor.name)
        for (name, spec), tensor in zip(serving.outputs, frozen.outputs, strict=True)
    ]
    return _Frozen(frozen.graph.as_graph_def(), frozen.graph), inputs, outputs


def _interface(name: str, tensor: Any) -> Interface:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Interface(name, tensor.dtype.name, shape)


def _flat(tensor: str) -> str:
    node, _, index = tensor.partition(":")
    return reference(node, int(index or 0))


def from_graph_def(graph_def: Any) -> Graph:
    """A GraphDef's nodes; its function library is not kept."""
    return Graph(_node(node) for node in graph_def.node)


def _node(proto: Any) -> Node:
    import tensorflow as tf

    inputs = [_flat(tensor) for tensor in proto.input if not tensor.startswith("^")]
    if proto.op == "Const":
        return constant(proto.name, tf.make_ndarray(proto.attr["value"].tensor))
    attrs = {
        name: _attr(proto.attr[name]) for name in sorted(proto.attr) if not name.startswith("_")
    }
    return Node(proto.name, proto.op, inputs, attrs)


def _attr(value: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    data: dict[str, Any] = MessageToDict(value)
    return data or {value.WhichOneof("value") or "s": {} if value.HasField("shape") else ""}


def to_graph_def(graph: Graph) -> Any:
    """The same graph for TensorFlow."""
    import tensorflow as tf
    from google.protobuf.json_format import ParseDict
    from tensorflow.core.framework.graph_pb2 import GraphDef

    graph_def = GraphDef()
    graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in graph:
        proto = graph_def.node.add(name=node.name, op=node.op)
        proto.input.extend(node.inputs)
        for name, attr in node.attrs.items():
            ParseDict(attr, proto.attr[name])
        if node.value is not None:
            proto.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(node.value))
    return graph_def


def _function(proto: Any) -> Function:
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    graph_def, flat = function_def_to_graph_def(proto)
    arguments = [arg.name for arg in proto.signature.input_arg]
    results = [_flat(flat[proto.ret[arg.name]]) for arg in proto.signature.output_arg]
    return Function(from_graph_def(graph_def), arguments, results)


def optimize(graph: Graph) -> None:
    """Let TensorFlow's grappler simplify the graph, in place, and find the shapes of its tensors."""
    import tensorflow as tf
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.grappler import tf_optimizer

    graph_def = to_graph_def(graph)
    with tf.Graph().as_default() as native:
        tf.import_graph_def(graph_def, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=native)
    keep = [node_of(t) for t in (*graph.inputs.values(), *graph.outputs.values())]
    meta.collection_def["train_op"].node_list.value.extend(sorted(set(keep)))
    config = ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers.extend(_OPTIMIZERS)
    rewrite.min_graph_nodes = -1
    rewrite.meta_optimizer_iterations = 2
    graph.nodes = from_graph_def(tf_optimizer.OptimizeGraph(config, meta)).nodes
    graph.sort()
    infer_shapes(graph)


def infer_shapes(graph: Graph) -> None:
    """Let TensorFlow find the shapes of all tensors."""
    import tensorflow as tf

    with tf.Graph().as_default() as native:
        tf.import_graph_def(to_graph_def(graph), name="")
    graph.shapes = _static_shapes(native)


def _static_shapes(native: Any) -> dict[str, tuple[int | None, ...]]:
    return {
        reference(op.name, index): tuple(tensor.shape.as_list())
        for op in native.get_operations()
        for index, tensor in enumerate(op.outputs)
        if tensor.shape.rank is not None
    }
