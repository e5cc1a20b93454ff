"""A Keras 2 model file from a TF.js layers-model or a Keras 3 model: a step towards a SavedModel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.converters.tfjs.layers_check import known
from pipcook_deploy.converters.tfjs.layers_weights import weight_places
from pipcook_deploy.errors import ConversionError, UnsupportedConversionError
from pipcook_deploy.formats.tfjs_model import TfjsModel, read_model
from pipcook_deploy.model import Model

# Options that decide about training only; TF.js writes some in its own way.
_DROPPED = ("_initializer", "_regularizer", "_constraint")
# Where TF.js' default is not that of Keras: an option that a file leaves out.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "GRU": {"reset_after": False, "recurrent_activation": "hard_sigmoid"},
    "GRUCell": {"reset_after": False, "recurrent_activation": "hard_sigmoid"},
    "LSTM": {"recurrent_activation": "hard_sigmoid"},
    "LSTMCell": {"recurrent_activation": "hard_sigmoid"},
}


class KerasH5Converter(Converter):
    """Writes `model.h5`, a full model that tf_keras opens."""

    format: ClassVar[str] = "keras_h5"
    accepts: ClassVar[tuple[str, ...]] = ("tfjs_layers", "keras")
    intermediate: ClassVar[bool] = True

    def convert(self, model: Model, into: Path) -> Artifact:
        """Raises `UnsupportedConversionError` for a layer that Keras 2 lacks."""
        live = _from_keras3(model) if model.format == "keras" else from_tfjs(read_model(model.path))
        live.save(into / "model.h5", save_format="h5", include_optimizer=False)
        ins, outs = (
            tuple(Binding(t.name, t.name, t.dtype, t.shape) for t in tensors)
            for tensors in (model.spec.inputs, model.spec.outputs)
        )
        return Artifact(self.format, "keras_h5", into, "model.h5", ins, outs)


def _from_keras3(model: Model) -> Any:
    from pipcook_deploy.keras_io import load_keras
    from pipcook_deploy.keras_rebuild import rebuild

    return rebuild(load_keras(model))


def from_tfjs(source: TfjsModel) -> Any:
    """A live tf_keras model with the layers and weights of a layers-model.

    Raises `ConversionError` when weights and layers do not belong together.
    """
    import tf_keras

    from pipcook_deploy.keras_rebuild.build import known_options

    entry = known_options(keras2_from_tfjs(source.layers_config))
    try:
        live = tf_keras.layers.deserialize(entry, custom_objects={"gelu_new": _gelu_new})
    except (ValueError, TypeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedConversionError(f"Keras 2 cannot build the model: {reason}") from error
    if not live.built:
        raise UnsupportedConversionError("the layers-model has no input shape")
    _set_weights(live, source)
    return live


def keras2_from_tfjs(entry: dict[str, Any]) -> dict[str, Any]:
    """A layers-model's entry as Keras 2 writes it, nested ones included.

    Only classes that TF.js has come through, and nothing but their names and options: a file that names
    Python to load (`Lambda`, `module`) cannot have it loaded.
    """
    name, config = entry["class_name"], entry["config"]
    if name not in known()["layers"]:
        raise UnsupportedConversionError(f"{_name(config)}{name} is not a layer of TF.js")
    if name in ("Model", "Functional", "Sequential"):
        layers = config["layers"] if isinstance(config, dict) else config
        config = dict(config) if isinstance(config, dict) else {"name": "sequential"}
        config["layers"] = [_row(layer) for layer in layers]
        config.pop("build_input_shape", None)
        return {
            "class_name": "Sequential" if name == "Sequential" else "Functional",
            "config": config,
        }
    return {"class_name": name, "config": _DEFAULTS.get(name, {}) | dict(_options(config))}


def _row(layer: dict[str, Any]) -> dict[str, Any]:
    found = keras2_from_tfjs(layer)
    if "inbound_nodes" not in layer:
        return found
    nodes = [[[*row[:3], _call(row[3:])] for row in node] for node in layer["inbound_nodes"]]
    return {"name": layer["name"], **found, "inbound_nodes": nodes}


def _call(options: list[Any]) -> dict[str, Any]:
    found = {k: v for k, v in (options[0] if options else {}).items() if v is not None}
    if odd := [key for key, value in found.items() if isinstance(value, dict)]:
        raise UnsupportedConversionError(f"a layer is called with {', '.join(odd)}")
    return found


def _name(config: Any) -> str:
    name = config.get("name") if isinstance(config, dict) else None
    return f"layer {name!r}: " if name else ""


def _options(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if value is None or key.endswith(_DROPPED):
            continue
        if isinstance(value, dict) and "class_name" in value:
            yield key, keras2_from_tfjs(value)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield key, [keras2_from_tfjs(item) for item in value]
        elif isinstance(value, dict):
            raise UnsupportedConversionError(f"{_name(config)}{key} is an object")
        else:
            yield key, value


def _set_weights(live: Any, source: TfjsModel) -> None:
    """By the names that TF.js looks for; every weight must find its place and every place its weight."""
    places = weight_places(live)
    wanted = {name for _, names in places for name in names}
    stored = [spec["name"] for spec in source.specs if spec.get("group") != "optimizer"]
    found = {name if name in wanted else _without_cell(name): name for name in stored}
    missing = sorted(wanted - found.keys())
    left = sorted(name for short, name in found.items() if short not in wanted)
    if missing or left:
        raise ConversionError(
            "weights and layers do not belong together: "
            f"without a value: {', '.join(missing[:3]) or 'none'}; "
            f"without a layer: {', '.join(left[:3]) or 'none'}"
        )
    for layer, names in places:
        try:
            layer.set_weights([source.weights[found[name]] for name in names])
        except ValueError as error:
            raise ConversionError(
                f"layer {layer.name!r}: its weights do not fit: {error}"
            ) from error


def _without_cell(name: str) -> str:
    """lstm/lstm_cell/kernel -> lstm/kernel: TF.js finds weights of Keras' cells so."""
    parts = name.split("/")
    return "/".join([*parts[:-2], parts[-1]])


def _gelu_new(x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.gelu(x, approximate=True)
