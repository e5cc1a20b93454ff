"""The ONNX converter: SavedModel -> tf2onnx, in this process, under the spec's names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_io import Serving, dtype_name, open_signature, static_shape

NEWEST_BY_TF2ONNX = 18  # it writes nothing newer; later sets are reached by onnx.version_converter
FILE = "model.onnx"


class OnnxConverter(Converter):
    """Writes one `model.onnx`."""

    format: ClassVar[str] = "onnx"
    accepts: ClassVar[tuple[str, ...]] = ("saved_model",)

    opset: int = Field(default=18, ge=13, le=23, description="ONNX operator set to write.")
    slim: bool = Field(
        default=True, description="Simplify the graph with onnxslim: fewer nodes, same answers."
    )

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`.

        Raises `ConversionError` naming the operators that ONNX has not.
        """
        import onnx

        serving = open_signature(model)
        proto = _convert(serving, min(self.opset, NEWEST_BY_TF2ONNX))
        if self.slim:
            proto = _slim(proto)
        if self.opset > NEWEST_BY_TF2ONNX:
            proto = _raise_opset(proto, self.opset)
        _restore_names(proto, serving)
        _clean(proto)
        _check(proto)
        data = proto.SerializeToString(deterministic=True)
        onnx.checker.check_model(data)
        (into / FILE).write_bytes(data)
        return Artifact(
            "onnx",
            "onnx",
            into,
            FILE,
            _bindings(serving.inputs),
            _bindings(serving.outputs),
            details={"opset": self.opset, "ir_version": proto.ir_version},
        )


def _bindings(rows: tuple[tuple[str, Any], ...]) -> tuple[Binding, ...]:
    return tuple(Binding(k, k, dtype_name(s.dtype), static_shape(s.shape)) for k, s in rows)


def _convert(serving: Serving, opset: int) -> Any:
    """The model as an ONNX ModelProto; inputs and outputs are called by position until the end."""
    import tensorflow as tf
    from tf2onnx import tf_loader
    from tf2onnx.tfonnx import process_tf_graph

    function = serving.function
    inputs = _input_tensors(function)
    outputs = [tensor.name for tensor in function.outputs]
    tf_loader.tf_reset_default_graph()
    with tf.device("/cpu:0"):
        graph_def, tables = tf_loader.from_trackable(
            serving.owner, function, [*inputs.values()], outputs, False
        )
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
            renames = dict(zip(inputs.values(), _safe("input", len(inputs)), strict=True))
            renames |= dict(zip(outputs, _safe("output", len(outputs)), strict=True))
            converted = process_tf_graph(
                graph,
                opset=opset,
                input_names=[*inputs.values()],
                output_names=outputs,
                initialized_tables=tables,
                tensors_to_rename=renames,
                custom_op_handlers={"Erfc": (_erfc, [])},
                continue_on_error=True,
            )
    return _optimized(converted)


def _optimized(graph: Any) -> Any:
    from tf2onnx import optimizer

    return optimizer.optimize_graph(graph, catch_errors=False).make_model("model")


def _input_tensors(function: Any) -> dict[str, str]:
    """Graph tensors of the signature's inputs, by key."""
    keys = sorted(function.structured_input_signature[1])
    captured = {t.name for t in function.graph.function_captures.by_val_internal.values()}
    tensors = [t.name for t in function.inputs if t.name not in captured]
    return dict(zip(keys, tensors, strict=True))


def _safe(kind: str, count: int) -> list[str]:
    return [f"pipcook_{kind}_{number}" for number in range(count)]


def _erfc(context: Any, node: Any, name: str, args: Any) -> Any:
    """Erfc is not in ONNX: 1 - Erf(x)."""
    import numpy as np
    from tf2onnx import utils

    source, outputs = node.input[0], node.output
    shape, dtype = context.get_shape(outputs[0]), context.get_dtype(outputs[0])
    context.remove_node(name)
    one = context.make_const(
        utils.make_name("one"), np.array(1.0, utils.map_onnx_to_numpy_type(dtype))
    )
    erf = context.make_node("Erf", [source], shapes=[shape], dtypes=[dtype])
    return context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=name,
        outputs=outputs,
        shapes=[shape],
        dtypes=[dtype],
    )


def _slim(proto: Any) -> Any:
    import onnxslim

    slimmed = onnxslim.slim(proto)
    if slimmed is None:
        raise ConversionError(
            "onnxslim could not simplify the model", "run with: onnx.slim = false"
        )
    return slimmed


def _raise_opset(proto: Any, opset: int) -> Any:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, opset)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(
            f"the model cannot be raised to opset {opset}: {reason[:300]}",
            f"use onnx.opset = {NEWEST_BY_TF2ONNX} or less",
        ) from error


def _restore_names(proto: Any, serving: Serving) -> None:
    """Give graph inputs and outputs the spec's names, and dynamic axes readable ones."""
    names = dict(zip(_safe("input", len(serving.inputs)), serving.inputs, strict=True))
    names |= dict(zip(_safe("output", len(serving.outputs)), serving.outputs, strict=True))
    renames = {safe: key for safe, (key, _) in names.items()}
    _sort(proto.graph)
    _rename_values(proto.graph, _lasting(proto.graph))
    inner = {value for node in _all_nodes(proto.graph) for value in node.output}
    _rename_values(proto.graph, {key: f"inner.{key}" for key in renames.values() if key in inner})
    proto.graph.initializer.sort(key=lambda tensor: str(tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        spec = names[value.name][1]
        _describe(value, spec, renames[value.name])
    _rename_values(proto.graph, renames)


def _sort(graph: Any) -> None:
    """Nodes in the order in which the outputs need them: tf2onnx' own order changes from run to run."""
    makers = {name: n for n, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    done: set[int] = set()
    stack = [(makers[v.name], False) for v in reversed(graph.output) if v.name in makers]
    while stack:
        number, ready = stack.pop()
        if ready:
            order.append(number)
        elif number not in done:
            done.add(number)
            stack.append((number, True))
            needs = [makers[name] for name in _reads(graph.node[number]) if name in makers]
            stack.extend((need, False) for need in reversed(needs) if need not in done)
    nodes = [type(graph.node[n]).FromString(graph.node[n].SerializeToString()) for n in order]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        node.attribute.sort(key=lambda attribute: str(attribute.name))
        for inner in _inner_graphs(node):
            _sort(inner)


def _reads(node: Any) -> Iterator[str]:
    """Tensors that a node needs, those that its loops and branches take from outside too."""
    yield from node.input
    for graph in _inner_graphs(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (value.name for value in graph.output)


def _lasting(graph: Any) -> dict[str, str]:
    """New names for inner tensors by what makes or reads them: `Conv_3`, `Conv_3.weight_1`.

    Those of TensorFlow and tf2onnx change from run to run: counters, and chance among merged constants.
    """
    names: dict[str, str] = {}
    constants = _constants(graph)
    for number, node in enumerate(_all_nodes(graph)):
        label = f"{node.op_type}_{number}"
        for index, old in enumerate(node.input):
            if old in constants:
                names.setdefault(old, f"{label}.weight_{index}")
        for index, old in enumerate(node.output):
            names[old] = label if index == 0 else f"{label}.{index}"
        for part, inner in enumerate(_inner_graphs(node)):
            inner.name = f"{label}.graph_{part}"
            for index, value in enumerate(inner.input):
                names[value.name] = f"{inner.name}.input_{index}"
    kept = ("pipcook_input_", "pipcook_output_")
    return {old: new for old, new in names.items() if old and not old.startswith(kept)}


def _constants(graph: Any) -> set[str]:
    inner = [g for node in _all_nodes(graph) for g in _inner_graphs(node)]
    return {str(tensor.name) for g in (graph, *inner) for tensor in g.initializer}


def _inner_graphs(node: Any) -> list[Any]:
    """Graphs of a loop or branch."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _describe(value: Any, spec: Any, name: str) -> None:
    if spec.shape.rank is None:
        return
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for axis, size in enumerate(spec.shape.as_list()):
        dim = shape.dim.add()
        if size is not None:
            dim.dim_value = size
        else:
            dim.dim_param = "batch" if axis == 0 else f"{name}_{axis}"


def _rename_values(graph: Any, names: dict[str, str]) -> None:
    """Rename tensors, in the graphs of loops and branches too."""
    for row in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        row.name = names.get(row.name, row.name)
    for node in graph.node:
        for list_ in (node.input, node.output):
            for index, name in enumerate(list_):
                list_[index] = names.get(name, name)
        for inner in _inner_graphs(node):
            _rename_values(inner, names)


def _clean(proto: Any) -> None:
    """Take out what is not the model: paths, dates, tool's chatter."""
    proto.doc_string = ""
    proto.graph.doc_string = ""
    proto.graph.name = "model"
    proto.producer_name = "pipcook-deploy"
    proto.producer_version = ""
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    for number, node in enumerate(_all_nodes(proto.graph)):
        node.ClearField("doc_string")
        if not node.domain:
            node.ClearField("domain")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        for inner in _inner_graphs(node):
            del inner.value_info[:]
            inner.ClearField("doc_string")
        node.name = f"{node.op_type}_{number}"


def _check(proto: Any) -> None:
    """Refuse operators that no ONNX operator set has: tf2onnx leaves what it cannot translate."""
    from onnx import defs

    known = {(schema.domain, schema.name) for schema in defs.get_all_schemas_with_history()}
    nodes = _all_nodes(proto.graph)
    foreign = sorted({n.op_type for n in nodes if (_domain(n), n.op_type) not in known})
    if foreign:
        raise ConversionError(
            f"ONNX has no operator for: {', '.join(foreign)}",
            "keep this model as saved_model, or replace the layer that uses it",
        )


def _domain(node: Any) -> str:
    return "" if node.domain == "ai.onnx" else str(node.domain)


def _all_nodes(graph: Any) -> list[Any]:
    """Nodes of a graph and of the loops and branches in it."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for inner in _inner_graphs(node):
            nodes += _all_nodes(inner)
    return nodes
