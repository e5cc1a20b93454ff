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
    return [
        Weight(name, value)
        for layer, names in weight_places(model)
        for name, value in zip(names, layer.get_weights(), strict=True)
    ]


def weight_places(model: Any) -> list[tuple[Any, list[str]]]:
    """Every layer with weights of its own, and their names, in the layer's order.

    Raises `UnsupportedConversionError` when two weights have one name.
    """
    places = [(layer, names) for layer, names in _places(model, "") if names]
    counts = Counter(name for _, names in places for name in names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UnsupportedConversionError(
            f"the model has several layers called {twice[0].rpartition('/')[0]!r}, in models inside it; "
            "TF.js finds weights by the layer's name",
            f"rename one, or {ADVICE}",
        )
    return places


def _places(layer: Any, prefix: str) -> Iterator[tuple[Any, list[str]]]:
    kind = type(layer).__name__
    name = f"{prefix}{layer.name}"
    if hasattr(layer, "layers"):
        # a model that is used twice is one model
        for inner in {id(inner): inner for inner in layer.layers}.values():
            yield from _places(inner, "")
    elif kind == "Bidirectional":
        for half in (layer.forward_layer, layer.backward_layer):
            yield from _places(half, f"{layer.name}/")
    elif kind == "TimeDistributed" and hasattr(layer.layer, "layers"):
        yield from _places(layer.layer, "")
    elif kind == "RNN" and hasattr(layer.cell, "cells"):
        for number, cell in enumerate(layer.cell.cells):
            yield cell, _names(cell, f"{name}/RNNCell_{number}")
    else:
        yield layer, _names(layer, name)


def _names(layer: Any, name: str) -> list[str]:
    found = [str(variable.name).split(":")[0].split("/")[-1] for variable in layer.weights]
    if type(layer).__name__ == "DepthwiseConv2D":  # Keras 3 calls it kernel
        found = ["depthwise_kernel" if local == "kernel" else local for local in found]
    return [f"{name}/{local}" for local in found]
