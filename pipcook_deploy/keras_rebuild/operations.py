"""Operations between Keras 3 tensors that are no layers (`x + 3.0`, `a * b`), as layers of Keras 2."""

from typing import Any

from pipcook_deploy.errors import UnsupportedConversionError

_MERGES = ("Add", "Multiply", "Subtract", "Maximum", "Minimum")
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Silu": "swish", "Tanh": "tanh", "Elu": "elu",
    "Selu": "selu", "Softplus": "softplus", "Softsign": "softsign", "HardSilu": "hard_silu",
    "HardSigmoid": "keras3_hard_sigmoid",
}  # fmt: skip


def is_operation(layer: dict[str, Any]) -> bool:
    """Whether an entry of a functional model is an operation and not a layer."""
    return str(layer.get("module", "")).startswith("keras.src.ops")


def operation_layer(layer: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The entry of a layer that does the same, and what it is called with.

    Raises `UnsupportedConversionError` naming the operation when there is none.
    """
    (node,) = layer["inbound_nodes"]
    arguments, kind = node["args"], layer["class_name"]
    tensors = [value for value in arguments if isinstance(value, dict)]
    if kind in _MERGES and len(tensors) == 2:
        return _entry(layer, kind, {}), tensors
    if kind in _ACTIVATIONS and len(arguments) == 1:
        return _entry(layer, "Activation", {"activation": _ACTIVATIONS[kind]}), tensors[0]
    numbers = [value for value in arguments if isinstance(value, int | float)]
    if len(tensors) == 1 and len(numbers) == 1 and len(arguments) == 2:
        options = _rescaling(kind, numbers[0], tensor_first=isinstance(arguments[0], dict))
        if options is not None:
            return _entry(layer, "Rescaling", options), tensors[0]
    raise UnsupportedConversionError(
        f"the operation {layer['name']!r} ({kind}) between layers has no layer in Keras 2"
    )


def _rescaling(kind: str, number: float, tensor_first: bool) -> dict[str, float] | None:
    """x * scale + offset for an operation of a tensor and a number."""
    sign = 1.0 if tensor_first else -1.0
    match kind:
        case "Add":
            return {"scale": 1.0, "offset": float(number)}
        case "Multiply":
            return {"scale": float(number), "offset": 0.0}
        case "Subtract":
            return {"scale": sign, "offset": -sign * float(number)}
        case "Divide" | "TrueDivide" if tensor_first and number:
            return {"scale": 1 / float(number), "offset": 0.0}
    return None


def _entry(layer: dict[str, Any], class_name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": layer["name"], **options}}
