"""What follows what in a Keras model's file: chains of layers with one consumer each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.sources.keras_topology import Graph, Layer

_OUT = ""  # stands for "an output of the model" among the consumers of a layer


@dataclass(frozen=True)
class Chain:
    """The layers of one graph by name, and who reads each; `prefix` is where a nested graph stands."""

    prefix: str
    layers: dict[str, Layer]
    readers: dict[str, list[str]] = field(default_factory=dict)

    def next(self, name: str) -> Layer | None:
        """The only reader of a layer; None where there are several, or where the model ends.

        None too when the reader reads something else beside, or when either is used twice.
        """
        readers = self.readers.get(name, [])
        if len(readers) != 1 or readers[0] == _OUT:
            return None
        reader = self.layers[readers[0]]
        once = len(reader.calls) == 1 and len(reader.calls[0]) == 1
        return reader if once and len(self.layers[name].calls) <= 1 else None


def chains(graph: Graph, prefix: str = "") -> Iterator[Chain]:
    """The graph itself, and each model inside it that is used once."""
    readers: dict[str, list[str]] = {}
    for layer in graph.layers:
        for call in layer.calls:
            for name, _, _ in call:
                readers.setdefault(name, []).append(layer.name)
    for name, _, _ in graph.outputs:
        readers.setdefault(name, []).append(_OUT)
    yield Chain(prefix, {layer.name: layer for layer in graph.layers}, readers)
    for layer in graph.layers:
        if layer.graph is not None and len(layer.calls) <= 1:
            yield from chains(layer.graph, f"{prefix}{layer.name}/")


def norms_after(graph: Graph) -> dict[str, str]:
    """For each layer, by path, whose only reader is a batch norm: the path of that batch norm."""
    return {
        f"{chain.prefix}{name}": f"{chain.prefix}{reader.name}"
        for chain in chains(graph)
        for name in chain.layers
        if (reader := chain.next(name)) is not None and reader.class_name == "BatchNormalization"
    }


def norm_scale(norm: Any) -> Any:
    """What a live batch norm multiplies each channel with: float32 [channels]."""
    import numpy as np

    variance = np.asarray(norm.moving_variance)
    gamma = np.asarray(norm.gamma) if norm.scale else np.ones_like(variance)
    return gamma / np.sqrt(variance + norm.epsilon)
