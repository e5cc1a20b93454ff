"""Writes TF.js layers-models: from Keras 2 and 3, and again from layers-models."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converters.tfjs.layers_topology import (
    INPUT_TYPES,
    input_names,
    keras2_activations,
    output_names,
    topology,
)
from pipcook_deploy.converters.tfjs.layers_weights import model_weights
from pipcook_deploy.errors import SourceError, UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import TfjsModel, read_model, write_model
from pipcook_deploy.formats.tfjs_weights import Encoded, Storage, Weight, coarser
from pipcook_deploy.model import Model
from pipcook_deploy.spec import TensorSpec

GENERATED_BY = "pipcook-deploy"
Precisions = Callable[[str, int], Storage]


def write_layers(
    model: Model, into: Path, *, precision: str, precision_of: Precisions, shard_size: int
) -> Artifact:
    """Write a `keras`, `keras_h5` or `tfjs_layers` model; `precision_of` has name and rank of a weight.

    Raises `UnsupportedConversionError` naming the layer that TF.js does not have, before anything is
    written. A layers-model keeps its topology and, where the precision allows, its very bytes.
    """
    if model.format == "tfjs_layers":
        entry, structure, weights = _from_tfjs(read_model(model.path), precision_of)
    else:
        live = _load(model)
        entry = _keras2_entry(live, model.format)
        structure, weights = topology(entry), model_weights(live)
    ranks = {w.name: w.value.ndim for w in weights if isinstance(w, Weight)}
    write_model(
        into,
        model_format="tfjs_layers",
        topology=structure,
        weights=weights,
        precision=lambda name: precision_of(name, ranks[name]),
        shard_size=shard_size,
        generated_by=GENERATED_BY,
    )
    return Artifact(
        format="tfjs",
        model_format="tfjs_layers",
        path=into,
        entry="model.json",
        inputs=_bindings(model.spec.inputs, input_names(entry)),
        outputs=_bindings(model.spec.outputs, output_names(entry)),
        precision=precision,
        details={"weights": len(weights)},
    )


def _load(model: Model) -> Any:
    if model.format == "keras_h5":
        import tf_keras

        return tf_keras.models.load_model(model.path, compile=False)
    from pipcook_deploy.keras_io import load_keras

    return load_keras(model)


def _keras2_entry(live: Any, model_format: str) -> dict[str, Any]:
    from pipcook_deploy.keras_rebuild.build import entry_of
    from pipcook_deploy.keras_rebuild.config import keras2_entry

    entry = entry_of(live)
    return _with_input(keras2_entry(entry) if model_format == "keras" else _plain(entry), live)


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """A tf_keras entry with names for activations, all the way down."""
    config = entry["config"]
    for key in ("layer", "cell"):
        if isinstance(config.get(key), dict):
            config = config | {key: _plain(config[key])}
    if "layers" in config:
        config = config | {"layers": [_plain(layer) for layer in config["layers"]]}
    return keras2_activations(entry | {"config": config})


def _with_input(entry: dict[str, Any], live: Any) -> dict[str, Any]:
    """A Sequential that was built by its first call has a shape, but no input layer."""
    config = entry["config"]
    if entry["class_name"] != "Sequential" or config["layers"][0]["class_name"] == "InputLayer":
        return entry
    if not getattr(live, "inputs", None):
        raise UnsupportedConversionError(
            "the model has no input shape", "give it one: start it with Input(shape=...)"
        )
    (tensor,) = live.inputs
    options = {"name": f"{config['name']}_input", "batch_input_shape": list(tensor.shape)}
    dtype = getattr(tensor.dtype, "name", tensor.dtype)
    first = {"class_name": "InputLayer", "config": options | {"dtype": dtype}}
    return entry | {"config": config | {"layers": [first, *config["layers"]]}}


def _from_tfjs(
    source: TfjsModel, precision_of: Precisions
) -> tuple[dict[str, Any], dict[str, Any], list[Weight | Encoded]]:
    if source.format != "tfjs_layers":
        raise SourceError("a graph-model has no layers", "convert with --set tfjs.kind=graph")
    structure = {
        k: v for k, v in source.topology.items() if not k.startswith(("training", "optim"))
    }
    kept = [spec for spec in source.specs if spec.get("group") != "optimizer"]
    return source.layers_config, structure, [_kept(source, spec, precision_of) for spec in kept]


def _kept(source: TfjsModel, spec: dict[str, Any], precision_of: Precisions) -> Weight | Encoded:
    """The stored bytes, unless a precision is asked for that would make them smaller."""
    name = spec["name"]
    if coarser(spec, precision_of(name, len(spec["shape"]))):
        return Weight(name, source.weights[name])
    encoded = source.weights.encoded(name)
    return Encoded({k: v for k, v in encoded.spec.items() if k != "group"}, encoded.data)


def _bindings(specs: Iterable[TensorSpec], names: list[str]) -> tuple[Binding, ...]:
    """Pair the spec's tensors with the model's: by name where the names are the same, else in order."""
    tensors = list(specs)
    if len(tensors) != len(names):
        raise UnsupportedConversionError(
            f"the model has {len(names)} inputs or outputs ({', '.join(names)}), its spec {len(tensors)}"
        )
    if {tensor.name for tensor in tensors} == set(names):
        names = [tensor.name for tensor in tensors]
    rows = zip(tensors, names, strict=True)
    return tuple(
        Binding(t.name, name, INPUT_TYPES.get(t.dtype, t.dtype), t.shape) for t, name in rows
    )
