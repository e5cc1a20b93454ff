"""Which layers of a tf_keras model tfmot can train as int8, and why it cannot the others."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from pipcook_deploy.compression.keras_layers import is_model

# full: weights and output as tfmot does it. own: the same, by a configuration that tfmot does not ship.
# range: computed in float while training, its output rounded to int8. float: left alone.
How = Literal["full", "own", "range", "float"]

# `QuantizeAwareActivation` knows these; any other activation ends in a ValueError.
ACTIVATIONS = ("linear", "relu", "swish", "gelu", "softmax", "sigmoid", "tanh")
# What tfmot folds a batch norm into (its layout transforms).
FOLDING = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")
# Divided by tfmot into layers of other names.
DIVIDED = ("SeparableConv1D", "SeparableConv2D")
# Not in tfmot's registry, but like layers that are: TFLite computes both in int8.
OWN = ("Conv1D", "Embedding")
# Layers that only move values around, which tfmot's registry forgot: nothing to round.
MOVING = ("MaxPooling1D", "RepeatVector", "UpSampling1D")


@dataclass(frozen=True)
class LayerPlan:
    """What is done with one layer; `reason` says why it is not trained as int8 in full."""

    name: str
    kind: str
    how: How
    reason: str = ""


def plan(model: Any, registry: Any, divided: bool = True) -> list[LayerPlan]:
    """One row for every layer that computes, in the order of the model. `registry` is tfmot's.

    `divided` allows separable convolutions, which tfmot divides in two: the weights cannot go back.
    """
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    rows = [_planned(layer, registry) for layer in layers]
    return rows if divided else [_whole(row) for row in rows]


def _whole(row: LayerPlan) -> LayerPlan:
    if row.kind not in DIVIDED or row.how != "full":
        return row
    reason = (
        "tfmot divides it in two, and its weights cannot be had back: use result = 'saved_model'"
    )
    return LayerPlan(row.name, row.kind, "range", reason)


def obstacles(model: Any) -> dict[str, str]:
    """What keeps tfmot from taking the model at all: reasons by layer."""
    names = Counter(layer.name for layer in model.layers)
    found = {}
    for layer in model.layers:
        uses = _uses(model, layer)
        if is_model(layer):
            found[layer.name] = "is a model inside the model"
        elif uses > 1:
            found[layer.name] = f"is used {uses} times: tfmot takes layers that are used once"
        elif names[layer.name] > 1:
            found[layer.name] = "shares its name with another layer"
    return found


def _planned(layer: Any, registry: Any) -> LayerPlan:
    kind = type(layer).__name__
    reason = _must_stay_float(layer)
    if reason:
        return LayerPlan(layer.name, kind, "float", reason)
    reason = _not_in_full(layer, kind, registry)
    if reason:
        return LayerPlan(layer.name, kind, "range", reason)
    return LayerPlan(layer.name, kind, "own" if kind in (*OWN, *MOVING) else "full")


def _must_stay_float(layer: Any) -> str:
    """Why not even the output can be rounded; empty if it can."""
    kind = type(layer).__name__
    if kind in ("TFOpLambda", "SlicingOpLambda", "Lambda", "MultiHeadAttention"):
        return f"{kind} takes arguments that tfmot's wrapper does not pass on"
    if kind == "Masking" or _masked(layer.input) or _masked(layer.output):
        return "computes with a mask, which tfmot's wrapper does not pass on"
    outputs = layer.output if isinstance(layer.output, list | tuple) else [layer.output]
    if len(outputs) != 1:
        return f"has {len(outputs)} outputs: tfmot rounds one"
    return "" if outputs[0].dtype.is_floating else f"its output is {outputs[0].dtype.name}"


def _not_in_full(layer: Any, kind: str, registry: Any) -> str:
    """Why the layer itself cannot be trained as int8; empty if it can."""
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in ACTIVATIONS:
        return f"tfmot knows no activation {activation} (it knows {', '.join(ACTIVATIONS)})"
    if kind == "BatchNormalization":
        return _not_folded(layer)
    if getattr(layer, "padding", None) == "causal":
        return "tfmot has no causal padding"
    if kind in (*DIVIDED, *OWN, *MOVING) or registry.supports(layer):
        return ""
    return f"tfmot has no {kind}"


def _not_folded(layer: Any) -> str:
    before = layer.inbound_nodes[0].inbound_layers
    kind = type(before).__name__
    if kind == "Reshape":
        before = before.inbound_nodes[0].inbound_layers
        kind = type(before).__name__
    if kind not in FOLDING:
        return f"a batch norm is folded into {', '.join(FOLDING)} before it; here {kind} is"
    if getattr(before.activation, "__name__", "") != "linear":
        return f"{before.name} before it has an activation, so that it cannot be folded into it"
    if len(before.outbound_nodes) > 1:
        return f"{before.name} before it has other readers, so that it cannot be folded into it"
    return ""


def _uses(model: Any, layer: Any) -> int:
    """How often the model itself calls a layer; other models may call it too."""
    nodes = model._network_nodes
    return sum(f"{layer.name}_ib-{n}" in nodes for n in range(len(layer.inbound_nodes)))


def _masked(tensors: Any) -> bool:
    found = tensors if isinstance(tensors, list | tuple) else [tensors]
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in found)
