"""Weights of a live Keras model (2 or 3) under the names that TF.js looks for.

TF.js names a weight by the layer's own name, without the names of the models around it; the halves of
a Bidirectional layer come after its name, stacked cells are numbered.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipcook_deploy.converters.tfjs.layers_check import ADVICE

from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.formats.tfjs_weights import Encoded, Weight


def model_weights(model: Any) -> list[Weight | Encoded]:
    """All weights, in layer order. Raises `UnsupportedConversionError` when two have one name."""
    found = list(_weights(model, ""))
    twice = [name for name, count in Counter(w.name for w in found).items() if count > 1]
    if twice:
        raise UnsupportedConversionError(
            f"the model has several layers called {twice[0].rpartition('/')[0]!r}, in models inside it; "
            "TF.js finds weights by the layer's name",
            f"rename one, or {ADVICE}",
        )
    return list(found)


def _weights(layer: Any, prefix: str) -> Iterator[Weight]:
    kind = type(layer).__name__
    name = f"{prefix}{layer.name}"
    if hasattr(layer, "layers"):
        # a layer that a model has twice is one layer
        for inner in dict.fromkeys(layer.layers):
            yield from _weights(inner, "")
    elif kind == "Bidirectional":
        for half in (layer.forward_layer, layer.backward_layer):
            yield from _weights(half, f"{layer.name}/")
    elif kind == "TimeDistributed" and hasattr(layer.layer, "layers"):
        yield from _weights(layer.layer, "")
    elif kind == "RNN" and hasattr(layer.cell, "cells"):
        for number, cell in enumerate(layer.cell.cells):
            yield from _own(cell, f"{name}/RNNCell_{number}")
    else:
        yield from _own(layer, name)


def _own(layer: Any, name: str) -> Iterator[Weight]:
    for variable, value in zip(layer.weights, layer.get_weights(), strict=True):
        local = str(variable.name).split(":")[0].split("/")[-1]
        if type(layer).__name__ == "DepthwiseConv2D" and local == "kernel":
            local = "depthwise_kernel"  # as Keras 2 called it
        yield Weight(f"{name}/{local}", value)
