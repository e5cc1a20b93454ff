"""A TF.js graph-model in TensorFlow with its weights as inputs: many weights are tried in one process."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Array, Graph, node_of
from pipcook_deploy.converters.tfjs.graph_import import prepared
from pipcook_deploy.converters.tfjs.graph_reader import read_graph
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.sources.tfjs_source import load_tfjs


@dataclass(frozen=True)
class TrialWeight:
    """A float weight with two or more axes; `kind` is the operation that reads it."""

    name: str
    kind: str
    value: Array


class TrialGraph:
    """Built once, called with the values of some weights; the others are as in the file."""

    def __init__(self, path: Path) -> None:
        """Raises `ConversionError` for a layers-model, and what `import_graph` raises."""
        model = load_tfjs(path, trusted=True)
        if model.format != "tfjs_graph":
            raise ConversionError(
                f"{path}: weights are tried on graph-models only", "set tfjs.kind = 'graph'"
            )
        graph = read_graph(model)
        self.weights = {weight.name: weight for weight in _weights(graph)}
        nodes = {name: graph.nodes[name] for name in self.weights}
        graph_def = prepared(model, graph)
        # Passes may rename a node; one that they took apart cannot be tried.
        self._nodes = {
            n: node.name for n, node in nodes.items() if graph.nodes.get(node.name) is node
        }
        self.weights = {name: self.weights[name] for name in self._nodes}
        self._inputs = graph.inputs
        self._function = _function(graph, graph_def, list(self._nodes.values()))

    def check(self, names: Iterable[str]) -> None:
        """Raises `ConversionError` for a name that is none of `weights`."""
        unknown = [name for name in names if name not in self.weights]
        if unknown:
            raise ConversionError(f"the graph has no weight {unknown[0]!r} that could be changed")

    def answers(self, values: Mapping[str, Array], inputs: Tensors, batch: int) -> Tensors:
        """Outputs by the names of the signature, for any number of samples."""
        import tensorflow as tf

        self.check(values)
        held = [tf.constant(values.get(n, w.value)) for n, w in self.weights.items()]
        count = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, count, batch):
            rows = [tf.constant(inputs[name][start : start + batch]) for name in self._inputs]
            parts.append(self._function(rows, held))
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def _weights(graph: Graph) -> list[TrialWeight]:
    users = graph.users()
    return [
        TrialWeight(node.name, users[node.name][0].op, node.value)
        for node in graph
        if node.value is not None
        and node.value.ndim >= 2
        and node.value.dtype == np.float32
        and users[node.name]
    ]


def _function(graph: Graph, graph_def: Any, constants: list[str]) -> Any:
    import tensorflow as tf

    places = [_numbered(tensor) for tensor in graph.inputs.values()]
    wanted = {name: _numbered(tensor) for name, tensor in graph.outputs.items()}
    types = {
        node.name: tf.dtypes.as_dtype(node.attr["dtype"].type)
        for node in graph_def.node
        if node.op == "Placeholder"
    }

    def call(inputs: list[Any], weights: list[Any]) -> dict[str, Any]:
        fed = [
            tf.cast(value, types[node_of(place)])
            for place, value in zip(places, inputs, strict=True)
        ]
        given = dict(zip(places, fed, strict=True))
        given |= dict(zip((f"{name}:0" for name in constants), weights, strict=True))
        found = tf.graph_util.import_graph_def(
            graph_def, given, list(wanted.values()), name="trial"
        )
        return dict(zip(wanted, map(tf.identity, found), strict=True))

    return tf.function(call, autograph=False, reduce_retracing=True)


def _numbered(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"
