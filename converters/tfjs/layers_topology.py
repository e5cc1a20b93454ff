"""The topology of a layers-model: Keras 2 configuration, checked, without what only training needs."""

from typing import Any

from pipcook_deploy.converters.tfjs.layers_check import ADVICE, check_layer
from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.keras_rebuild.config import MODELS, Entry, activation

# They do nothing when a model predicts; TF.js has Dropout, which does nothing either.
_IDLE = {
    "ActivityRegularization", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation",
    "RandomTranslation", "RandomZoom", "SpatialDropout2D", "SpatialDropout3D",
}  # fmt: skip

# Defaults in TF.js, or nothing that it reads.
_DROPPED = {
    "dtype", "seed", "ragged", "sparse", "optional", "groups", "implementation", "time_major", "synchronized",
    "renorm", "zero_output_for_mask", "keepdims", "output_padding", "batch_input_shape", "noise_shape",
    "sparse_input", "negative_slope", "threshold", "virtual_batch_size", "fused", "autocast",
}  # fmt: skip
INPUT_TYPES = {
    "float32": "float32", "float16": "float32", "float64": "float32", "bfloat16": "float32",
    "int8": "int32", "int16": "int32", "int32": "int32", "int64": "int32",
    "uint8": "int32", "uint16": "int32", "bool": "bool",
}  # fmt: skip
# Cheap to make, and replaced by the weights at once; some defaults (orthogonal) take seconds.
_ZEROS = {"class_name": "Zeros", "config": {}}
_INITIALIZED = {
    "Dense": ["kernel"], "Conv1D": ["kernel"], "Conv2D": ["kernel"], "Conv3D": ["kernel"],
    "Conv2DTranspose": ["kernel"], "Conv3DTranspose": ["kernel"], "DepthwiseConv2D": ["depthwise"],
    "SeparableConv2D": ["depthwise", "pointwise"], "Embedding": ["embeddings"],
    "SimpleRNN": ["kernel", "recurrent"], "GRU": ["kernel", "recurrent"], "LSTM": ["kernel", "recurrent"],
    "ConvLSTM2D": ["kernel", "recurrent"],
}  # fmt: skip


def topology(entry: Entry) -> Entry:
    """`modelTopology` of a model's Keras 2 entry. Raises `UnsupportedConversionError` naming a layer."""
    return {**_entry(entry), "keras_version": "2.15.0", "backend": "tensorflow"}


def input_names(entry: Entry) -> list[str]:
    """Names of the inputs of a model, in order."""
    return _ends(entry, "input_layers", 0)


def output_names(entry: Entry) -> list[str]:
    """Names of the layers that the outputs come from, in order."""
    return _ends(entry, "output_layers", -1)


def _ends(entry: Entry, key: str, place: int) -> list[str]:
    config = entry["config"]
    if isinstance(config, dict) and key in config:
        rows = config[key]
        rows = [rows] if rows and isinstance(rows[0], str) else rows
        return [row[0] for row in rows]
    layers = config["layers"] if isinstance(config, dict) else config  # Keras before 2.2.3: a list
    return [layers[place]["config"]["name"]]


def _entry(entry: Entry) -> Entry:
    name, config = entry["class_name"], entry["config"]
    if name in MODELS:
        layers = [_node_layer(layer) for layer in config["layers"]]
        ends = {k: config[k] for k in ("input_layers", "output_layers") if k in config}
        kind = "Sequential" if name == "Sequential" else "Model"
        config = {"name": config["name"], "layers": layers, **ends}
        return {"class_name": kind, "config": config}
    if name in _IDLE:
        return {"class_name": "Dropout", "config": {"name": config["name"], "rate": 0}}
    check_layer(name, config)
    return {"class_name": name, "config": _config(name, config)}


def _node_layer(layer: Entry) -> Entry:
    found = _entry(layer)
    if "inbound_nodes" not in layer:
        return found
    nodes = [[_row(layer, row) for row in node] for node in layer["inbound_nodes"]]
    return {"name": layer["config"]["name"], **found, "inbound_nodes": nodes}


def _row(layer: Entry, row: list[Any]) -> list[Any]:
    options = row[3] if len(row) > 3 else {}
    odd = [key for key, value in options.items() if key != "training" and value is not None]
    if odd:
        raise UnsupportedConversionError(
            f"layer {layer['config']['name']!r} ({layer['class_name']}) is called with {', '.join(odd)}, "
            "which TF.js cannot read from a file",
            ADVICE,
        )
    return [*row[:3], {}]


def _config(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if _kept(key, value)}
    for key in ("layer", "cell"):
        if isinstance(found.get(key), dict):
            found[key] = _entry(found[key])
    if isinstance(found.get("cells"), list):
        found["cells"] = [_entry(cell) for cell in found["cells"]]
    for key in ("activation", "recurrent_activation"):
        if isinstance(found.get(key), str):
            found[key] = _activation(found[key])
    if isinstance(found.get("axis"), list | tuple) and len(found["axis"]) == 1:
        found["axis"] = found["axis"][0]  # BatchNormalization of Keras 2
    if class_name == "InputLayer":
        found |= _input(config)
    return found | {f"{key}_initializer": _ZEROS for key in _INITIALIZED.get(class_name, [])}


def _kept(key: str, value: Any) -> bool:
    if key.endswith(("_initializer", "_regularizer", "_constraint")) or key in _DROPPED:
        return False
    return not (value is None or (key == "trainable" and value is True))


def _activation(name: str) -> str:
    return {"silu": "swish"}.get(name, name)


def _input(config: dict[str, Any]) -> dict[str, Any]:
    dtype = INPUT_TYPES.get(config.get("dtype") or "float32")
    if dtype is None:
        raise UnsupportedConversionError(
            f"input {config['name']!r}: TF.js has no input of type {config['dtype']}", ADVICE
        )
    return {"batch_input_shape": list(config["batch_input_shape"]), "dtype": dtype}


def keras2_activations(entry: Entry) -> Entry:
    """An entry of tf_keras with its activations as names, where it wrote them as objects."""
    config = dict(entry["config"])
    for key in ("activation", "recurrent_activation"):
        if isinstance(config.get(key), dict):
            config[key] = activation(config[key])
    return entry | {"config": config}
