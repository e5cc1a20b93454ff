"""Writes a TF.js graph-model again: other shards, smaller weights, the same graph. No TensorFlow."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.formats.tfjs_model import TfjsModel, read_model, write_model
from pipcook_deploy.formats.tfjs_weights import Encoded, Spec, Storage, Weight, coarser
from pipcook_deploy.model import Model
from pipcook_deploy.spec import TensorSpec

# Keys of model.json that belong to the graph, and which a graph with tables or other outputs needs.
_KEPT = ("modelInitializer", "initializerSignature")


def copy_graph(
    model: Model,
    into: Path,
    *,
    precision: str,
    precision_of: Callable[[str, int], Storage],
    shard_size: int,
) -> Artifact:
    """Copy the graph-model `model`; a weight keeps its bytes unless `precision_of` asks for fewer.

    Raises `ConversionError` for an input or output of the spec that the graph does not have.
    """
    source = read_model(model.path)
    inputs = _bindings(source, model.spec.inputs, "inputs")
    outputs = _bindings(source, model.spec.outputs, "outputs")
    write_model(
        into,
        model_format="tfjs_graph",
        topology=source.topology,
        weights=[_kept(source, spec, precision_of) for spec in source.specs],
        precision=lambda name: precision_of(name, source.weights[name].ndim),
        shard_size=shard_size,
        generated_by=source.generated_by or "",
        converted_by="pipcook-deploy",
        signature=source.signature,
        metadata=source.data.get("userDefinedMetadata"),
        extra={key: source.data[key] for key in _KEPT if key in source.data},
    )
    nodes = source.topology["node"]
    return Artifact(
        format="tfjs",
        model_format="tfjs_graph",
        path=into,
        entry="model.json",
        inputs=inputs,
        outputs=outputs,
        precision=precision,
        details={"ops": sum(node["op"] not in ("Const", "Placeholder") for node in nodes)},
    )


def _kept(
    source: TfjsModel, spec: Spec, precision_of: Callable[[str, int], Storage]
) -> Weight | Encoded:
    name = spec["name"]
    if coarser(spec, precision_of(name, len(spec["shape"]))):
        return Weight(name, source.weights[name])
    return source.weights.encoded(name)


def _bindings(source: TfjsModel, specs: Iterable[TensorSpec], side: str) -> tuple[Binding, ...]:
    tensors: dict[str, Any] = (source.signature or {}).get(side) or {}
    nodes = {node["name"] for node in source.topology["node"]}
    rows = []
    for spec in specs:
        tensor = str(tensors.get(spec.name, {}).get("name") or spec.name)
        if tensor.split(":")[0] not in nodes:
            raise ConversionError(
                f"the graph has no tensor {tensor!r} for {side[:-1]} {spec.name!r}"
            )
        rows.append(Binding(spec.name, tensor, spec.dtype, spec.shape))
    return tuple(rows)
