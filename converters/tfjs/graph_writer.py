"""Writes a SavedModel as a TF.js graph-model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converters.tfjs.einsum import lower_einsums
from pipcook_deploy.converters.tfjs.fuse import fuse
from pipcook_deploy.converters.tfjs.graph import Graph, Node
from pipcook_deploy.converters.tfjs.names import tidy_names
from pipcook_deploy.converters.tfjs.ops import check_ops
from pipcook_deploy.converters.tfjs.shapes import fold_sizes, static_reshapes
from pipcook_deploy.converters.tfjs.simplify import TFJS_TYPES, share_constants, simplify
from pipcook_deploy.converters.tfjs.tf_graph import Interface, load_graph, optimize
from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import write_model
from pipcook_deploy.formats.tfjs_weights import Storage, Weight
from pipcook_deploy.model import Model

GENERATED_BY = "pipcook-deploy"
_MAX_ROUNDS = 5
_BINDING_TYPES = {
    "DT_FLOAT": "float32", "DT_INT32": "int32", "DT_BOOL": "bool", "DT_STRING": "string",
    "DT_COMPLEX64": "complex64",
}  # fmt: skip


def write_graph(
    model: Model,
    into: Path,
    *,
    precision: str,
    precision_of: Callable[[str, int], Storage],
    shard_size: int,
    unroll_limit: int,
) -> Artifact:
    """Convert the SavedModel `model`; `precision_of` has the name and the rank of a float weight.

    Raises `ConversionError` for what TF.js cannot run, before anything is written.
    """
    graph, inputs, outputs = load_graph(model.path, model.signature, unroll_limit)
    inputs = in_order(inputs, [tensor.name for tensor in model.spec.inputs])
    outputs = in_order(outputs, [tensor.name for tensor in model.spec.outputs])
    graph.inputs = {i.name: graph.inputs[i.name] for i in inputs}
    graph.outputs = {o.name: graph.outputs[o.name] for o in outputs}
    prepare(graph, optimize)
    specs = _Specs(graph, inputs, outputs)
    weights = [Weight(node.name, node.value) for node in graph if node.value is not None]
    ranks = {weight.name: weight.value.ndim for weight in weights}
    write_model(
        into,
        model_format="tfjs_graph",
        topology=topology(graph),
        weights=weights,
        precision=lambda name: precision_of(name, ranks[name]),
        shard_size=shard_size,
        generated_by=GENERATED_BY,
        signature=specs.signature(),
    )
    return Artifact(
        format="tfjs",
        model_format="tfjs_graph",
        path=into,
        entry="model.json",
        inputs=specs.inputs,
        outputs=specs.outputs,
        precision=precision,
        details={"ops": sum(node.op not in ("Const", "Placeholder") for node in graph)},
    )


def in_order(tensors: list[Interface], names: list[str]) -> list[Interface]:
    """As the spec has them, or by name where the spec has others: TensorFlow's order is no one's."""
    known = {tensor.name: tensor for tensor in tensors}
    order = names if set(names) == set(known) else sorted(known)
    return [known[name] for name in order]


def prepare(graph: Graph, optimize: Callable[[Graph], None]) -> None:
    """All passes, from TensorFlow's graph to the one that is written. Raises `ConversionError`.

    `optimize` is called again, and finds `graph.shapes` again, after a pass has made sizes known.
    """
    simplify(graph)
    for _ in range(_MAX_ROUNDS):
        learned = [fold_sizes(graph), static_reshapes(graph)]
        if not any(learned):
            break
        optimize(graph)
        simplify(graph)
    lower_einsums(graph)
    graph.sort()
    fuse(graph)
    share_constants(graph)
    tidy_names(graph)
    check_ops(graph)
    tfjs_types(graph)


def tfjs_types(graph: Graph) -> None:
    """Replace each type that TF.js lacks by the one it has for it."""
    for node in graph:
        node.attrs = {name: _typed(attr) for name, attr in node.attrs.items()}


def _typed(attr: dict[str, Any]) -> dict[str, Any]:
    if "type" in attr:
        return {"type": TFJS_TYPES.get(attr["type"], attr["type"])}
    types = attr.get("list", {}).get("type")
    return attr if types is None else {"list": {"type": [TFJS_TYPES.get(t, t) for t in types]}}


def topology(graph: Graph) -> dict[str, Any]:
    """The graph as protobuf-JSON; the values of constants are in the shards."""
    return {
        "node": [_node(node) for node in graph],
        "library": {},
        "versions": {"producer": 0, "minConsumer": 0},
    }


def _node(node: Node) -> dict[str, Any]:
    row: dict[str, Any] = {"name": node.name, "op": node.op}
    if node.inputs:
        row["input"] = node.inputs
    if node.attrs:
        row["attr"] = node.attrs
    return row


class _Specs:
    """The interface of the artifact: the spec's names with TF.js' tensors, types and shapes."""

    def __init__(self, graph: Graph, inputs: list[Interface], outputs: list[Interface]) -> None:
        self.inputs = tuple(_binding(graph, i, graph.inputs[i.name]) for i in inputs)
        self.outputs = tuple(_binding(graph, o, graph.outputs[o.name]) for o in outputs)

    def signature(self) -> dict[str, Any]:
        """TF.js' `signature`: by name a tensor, its dtype and its shape."""
        return {
            "inputs": {binding.name: _tensor_info(binding) for binding in self.inputs},
            "outputs": {binding.name: _tensor_info(binding) for binding in self.outputs},
        }


def _binding(graph: Graph, interface: Interface, tensor: str) -> Binding:
    name = _proto_type(interface.dtype)
    dtype = _BINDING_TYPES.get(TFJS_TYPES.get(name, name))
    if dtype is None:
        raise UnsupportedConversionError(f"{interface.name}: TF.js has no type {interface.dtype}")
    shape = graph.shapes.get(tensor, interface.shape)
    if shape is None:
        raise UnsupportedConversionError(
            f"{interface.name}: the number of axes is not known",
            "export the model with input shapes",
        )
    return Binding(interface.name, tensor if ":" in tensor else f"{tensor}:0", dtype, shape)


def _proto_type(dtype: str) -> str:
    names = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF"}
    return names.get(dtype, f"DT_{dtype.upper()}")


def _tensor_info(binding: Binding) -> dict[str, Any]:
    dtype = next(proto for proto, name in _BINDING_TYPES.items() if name == binding.dtype)
    dims = [{"size": str(-1 if n is None else n)} for n in binding.shape]
    return {"name": binding.tensor, "dtype": dtype, "tensorShape": {"dim": dims}}
