"""A live tf_keras (Keras 2) model from a live Keras 3 model, with the same weights."""

import inspect
from typing import Any

from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.keras_rebuild.config import HARD_SIGMOID, MODELS, Entry, keras2_entry

_COMMON = {"name", "dtype", "trainable", "batch_input_shape", "input_shape"}
_SHAPES = {"query_shape", "value_shape", "key_shape"}  # of attention: read by its from_config


def rebuild(model: Any) -> Any:
    """The tf_keras twin of a functional or sequential Keras 3 model.

    Raises `UnsupportedConversionError` when a layer of it does not exist in Keras 2.
    """
    import tf_keras

    entry = known_options(keras2_entry(entry_of(model)))
    with tf_keras.utils.custom_object_scope(newer_activations()):
        twin = tf_keras.layers.deserialize(entry)
    copy_weights(model, twin)
    return twin


def entry_of(model: Any) -> Entry:
    """Class and configuration of a live model; `UnsupportedConversionError` for a subclassed one."""
    kinds = {base.__name__ for base in type(model).__mro__}
    kind = next((name for name in ("Sequential", "Functional") if name in kinds), None)
    if kind is None:
        raise UnsupportedConversionError(
            f"{type(model).__name__} is a subclassed model: its structure is code, not data",
            "build it from layers (functional or Sequential), or convert with --set tfjs.kind=graph",
        )
    return {"class_name": kind, "config": model.get_config()}


def copy_weights(source: Any, twin: Any) -> None:
    """Give every layer of `twin` the weights of the layer of the same name, nested models included."""
    layers = {layer.name: layer for layer in twin.layers}
    for layer in source.layers:
        if layer.name not in layers and not layer.weights:
            continue
        other = layers[layer.name]
        if hasattr(layer, "layers"):
            copy_weights(layer, other)
        elif layer.weights:
            other.set_weights(layer.get_weights())
            if hasattr(
                other, "finalize_state"
            ):  # Normalization computes with a copy of its weights
                other.finalize_state()


def known_options(entry: Entry) -> Entry:
    """Without the options that the class of Keras 2 does not have."""
    config = dict(entry["config"])
    for key in ("layer", "cell"):
        if isinstance(config.get(key), dict):
            config[key] = known_options(config[key])
    if entry["class_name"] in MODELS:
        config["layers"] = [known_options(layer) for layer in config["layers"]]
    else:
        known = _options(entry["class_name"])
        config = {key: value for key, value in config.items() if key in known}
    return entry | {"config": config}


def _options(class_name: str) -> set[str]:
    import tf_keras

    found = getattr(tf_keras.layers, class_name, None) or getattr(
        tf_keras.regularizers, class_name, None
    )
    found = found or getattr(tf_keras.constraints, class_name, None)
    if found is None:
        raise UnsupportedConversionError(f"Keras 2 has no layer {class_name}")
    inits = [vars(base)["__init__"] for base in inspect.getmro(found) if "__init__" in vars(base)]
    return (_COMMON | _SHAPES).union(*(inspect.signature(init).parameters for init in inits))


def newer_activations() -> dict[str, Any]:
    """Activations of Keras 3 that Keras 2 lacks; they compute on TensorFlow's tensors all the same."""
    import keras
    import tf_keras

    names = [name for name in dir(keras.activations) if not name.startswith("_")]
    missing = [name for name in names if not hasattr(tf_keras.activations, name)]
    found = {name: getattr(keras.activations, name) for name in missing}
    return found | {HARD_SIGMOID: keras.activations.hard_sigmoid}
