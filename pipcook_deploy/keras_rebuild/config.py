"""Translates the configuration of a Keras 3 model to the one that Keras 2 writes. Plain data, no framework.

An entry is `{"class_name", "config"}`, of a model also with `"layers"` in its config. What differs:
`batch_shape`, dtype policies, nodes, operations that are no layers, renamed options and activations.
"""

from typing import Any

from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.keras_rebuild.nodes import NodeTranslator, without_computed_masks
from pipcook_deploy.keras_rebuild.operations import is_operation, operation_layer

Entry = dict[str, Any]

MODELS = ("Functional", "Model", "Sequential")

# Keras 3's hard_sigmoid is relu6(x + 3) / 6, that of Keras 2 clip(0.2 x + 0.5, 0, 1): another name.
HARD_SIGMOID = "keras3_hard_sigmoid"
_ACTIVATIONS = {"hard_sigmoid": HARD_SIGMOID, "silu": "swish", "hard_swish": "hard_silu"}
_RENAMED = {
    "InputLayer": {"batch_shape": "batch_input_shape"},
    "LeakyReLU": {"negative_slope": "alpha"},
}
_DROPPED = {"quantization_config", "optional", "build_input_shape", "zero_output_for_mask"}


def keras2_entry(entry: Entry) -> Entry:
    """The Keras 2 entry of a Keras 3 layer or model, nested ones included.

    Raises `UnsupportedConversionError` for an operation that is no layer in Keras 2.
    """
    name, config = entry["class_name"], entry["config"]
    if name == "Sequential":
        return {"class_name": name, "config": _sequential(config)}
    if name in MODELS:
        return {"class_name": "Functional", "config": _functional(config)}
    return {"class_name": name, "config": _layer(name, config, entry.get("build_config") or {})}


def _sequential(config: dict[str, Any]) -> dict[str, Any]:
    layers = [keras2_entry(layer) for layer in config["layers"]]
    shape = config.get("build_input_shape")
    if layers and layers[0]["class_name"] != "InputLayer" and shape is not None:
        options = {"batch_input_shape": list(shape), "name": f"{config['name']}_input"}
        dtype = {"dtype": "float32"}
        layers.insert(0, {"class_name": "InputLayer", "config": options | dtype})
    return {"name": config["name"], "layers": layers}


def _functional(config: dict[str, Any]) -> dict[str, Any]:
    config = config | {"layers": without_computed_masks(config)}
    nodes = NodeTranslator(config)
    return {
        "name": config["name"],
        "trainable": config.get("trainable", True),
        "layers": [_node_layer(layer, nodes) for layer in config["layers"]],
        "input_layers": nodes.references(config["input_layers"]),
        "output_layers": nodes.references(config["output_layers"]),
    }


def _node_layer(layer: Entry, nodes: NodeTranslator) -> Entry:
    if is_operation(layer):
        entry, arguments = operation_layer(layer)
        inbound = [nodes.node(entry["class_name"], [arguments], {})]
    else:
        entry = keras2_entry(layer)
        inbound = [
            nodes.node(layer["class_name"], node["args"], node["kwargs"])
            for node in layer["inbound_nodes"]
        ]
    return {"name": layer["name"], **entry, "inbound_nodes": inbound}


def _layer(class_name: str, config: dict[str, Any], build_config: Entry) -> dict[str, Any]:
    renamed = _RENAMED.get(class_name, {})
    found = {
        renamed.get(key, key): _value(key, value)
        for key, value in config.items()
        if key not in _DROPPED and not key.endswith("_initializer")
    }
    if isinstance(found.get("axis"), list) and len(found["axis"]) == 1:
        found["axis"] = found["axis"][0]
    if class_name == "MultiHeadAttention":
        found |= _attention_shapes(build_config)
    if class_name == "Bidirectional":
        _same_backward(config)
        found.pop("backward_layer", None)
        found["layer"]["config"]["name"] = found["layer"]["config"]["name"].removeprefix("forward_")
    return found


def _value(key: str, value: Any) -> Any:
    if key == "dtype":
        return value["config"]["name"] if isinstance(value, dict) else value
    if key.endswith("activation"):
        return activation(value)
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list):
        return [_value("", item) for item in value]
    if isinstance(value, dict) and "class_name" in value and isinstance(value.get("config"), dict):
        return keras2_entry(value)
    return value


def activation(value: Any) -> Any:
    """Name of an activation in Keras 2; Keras 3 writes some as objects."""
    if isinstance(value, dict):
        value = value["config"] if isinstance(value["config"], str) else value["class_name"]
    return _ACTIVATIONS.get(value, value)


def _attention_shapes(build_config: Entry) -> dict[str, Any]:
    """Keras 2 builds attention from shapes in its own configuration."""
    shapes = build_config.get("shapes_dict", build_config)
    found = {key: shapes.get(key) for key in ("query_shape", "value_shape", "key_shape")}
    return found | {"key_shape": found["key_shape"] or found["value_shape"]}


def _same_backward(config: dict[str, Any]) -> None:
    """Keras 3 always writes the backward layer; Keras 2 and TF.js make it from the forward one."""
    forward, backward = (
        {k: v for k, v in config[key]["config"].items() if k not in ("name", "go_backwards")}
        for key in ("layer", "backward_layer")
    )
    if forward != backward:
        raise UnsupportedConversionError(
            f"layer {config['name']!r} (Bidirectional) has a backward layer of its own"
        )
