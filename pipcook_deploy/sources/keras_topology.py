"""The graph of a Keras model from its JSON: layers, calls, inputs and outputs. Keras 2, Keras 3 and TF.js.

Functional models of Keras 2 and TF.js list a call as [layer, node, tensor, kwargs]; Keras 3 nests
`__keras_tensor__` objects, which also record shapes. Tensors are named (layer, node, tensor).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.errors import SourceError

Shape = tuple[int | None, ...] | None
Ref = tuple[str, int, int]
MODELS = {"Sequential", "Functional", "Model", "LayersModel"}
MAX_DEPTH = 64


@dataclass(frozen=True)
class Layer:
    """One layer; `calls` are its uses, each with the tensors that it is given. `graph` if it is a model."""

    name: str
    class_name: str
    config: dict[str, Any]
    calls: tuple[tuple[Ref, ...], ...] = ()
    graph: "Graph | None" = None


@dataclass(frozen=True)
class Graph:
    """A model. `recorded` holds shapes that Keras 3 wrote beside the calls."""

    name: str
    class_name: str
    layers: tuple[Layer, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    recorded: dict[Ref, Shape] = field(default_factory=dict)

    def layer(self, name: str) -> Layer:
        """A layer by name."""
        return next(layer for layer in self.layers if layer.name == name)


def parse(model: Any, where: str, depth: int = 0) -> Graph:
    """The graph of `{"class_name": ..., "config": ...}`.

    Raises `SourceError` for a damaged topology, and for a model that is a class of its own.
    """
    if depth > MAX_DEPTH:
        raise SourceError(f"{where}: models nested deeper than {MAX_DEPTH}")
    class_name, config = _pair(model, where)
    if class_name not in MODELS:
        raise SourceError(
            f"{where}: the model is the class {class_name!r}, which only its own Python code can build",
            "save it as a SavedModel: model.export(folder)",
        )
    try:
        if class_name == "Sequential":
            return _sequential(config, where, depth)
        return _functional(class_name, config, where, depth)
    except RecursionError as error:
        raise SourceError(f"{where}: a damaged topology: nested too deep") from error
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise SourceError(f"{where}: a damaged topology: {error!r}") from error


RECURRENT = frozenset(
    {"RNN", "LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Bidirectional"}
)


def is_recurrent(topology: Any) -> bool:
    """Whether a topology that `parse` took has a recurrent layer at any depth: a loop in its graph."""
    waiting = [topology]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = value.get("class_name")
            if isinstance(name, str) and name.rsplit(">", 1)[-1] in RECURRENT:
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def _pair(model: Any, where: str) -> tuple[str, Any]:
    if not isinstance(model, dict) or not isinstance(model.get("class_name"), str):
        raise SourceError(f"{where}: a damaged topology: an object without a class_name")
    config = model.get("config")
    if not isinstance(config, dict | list):
        raise SourceError(f"{where}: a damaged topology: {model['class_name']} without a config")
    return model["class_name"], config


def _layer(entry: Any, where: str, depth: int) -> Layer:
    class_name, config = _pair(entry, where)
    graph = parse(entry, where, depth + 1) if class_name in MODELS else None
    settings = config if isinstance(config, dict) else {}
    name = entry.get("name") or settings.get("name") or (graph.name if graph else class_name)
    return Layer(str(name), class_name, settings, graph=graph)


def _sequential(config: Any, where: str, depth: int) -> Graph:
    entries = config if isinstance(config, list) else config["layers"]
    name = "sequential" if isinstance(config, list) else str(config.get("name", "sequential"))
    layers = [_layer(entry, where, depth) for entry in entries]
    if not layers:
        raise SourceError(f"{where}: the model {name!r} has no layers")
    if layers[0].class_name != "InputLayer":
        built = None if isinstance(config, list) else config.get("build_input_shape")
        layers.insert(0, _implied_input(layers[0], built))
    chained = [
        Layer(layer.name, layer.class_name, layer.config, (_before(layers, i),), layer.graph)
        for i, layer in enumerate(layers)
    ]
    return Graph(
        name, "Sequential", tuple(chained), ((layers[0].name, 0, 0),), ((layers[-1].name, 0, 0),)
    )


def _before(layers: list[Layer], index: int) -> tuple[Ref, ...]:
    return ((layers[index - 1].name, 0, 0),) if index else ()


def _implied_input(first: Layer, built: Any) -> Layer:
    """The input that a Sequential has although its config does not list it."""
    if first.graph is not None:
        inner = first.graph.layer(first.graph.inputs[0][0])
        return Layer(inner.name, "InputLayer", inner.config)
    shape = first.config.get("batch_input_shape") or first.config.get("batch_shape") or built
    # Keras 2 and TF.js give the input the layer's own dtype: float32 even before an Embedding.
    settings = {"batch_input_shape": shape, "dtype": first.config.get("dtype", "float32")}
    return Layer(f"{first.name}_input", "InputLayer", settings)


def _functional(class_name: str, config: dict[str, Any], where: str, depth: int) -> Graph:
    recorded: dict[Ref, Shape] = {}
    layers = []
    for entry in config["layers"]:
        layer = _layer(entry, where, depth)
        calls = tuple(tuple(_tensors(node, recorded)) for node in entry.get("inbound_nodes", []))
        layers.append(Layer(layer.name, layer.class_name, layer.config, calls, layer.graph))
    names = {layer.name for layer in layers}
    inputs, outputs = _refs(config["input_layers"]), _refs(config["output_layers"])
    unknown = [ref[0] for ref in (*inputs, *outputs) if ref[0] not in names]
    if unknown or not inputs or not outputs:
        raise SourceError(f"{where}: a damaged topology: inputs or outputs that do not exist")
    name = str(config.get("name", "model"))
    return Graph(name, class_name, tuple(layers), inputs, outputs, recorded)


def _tensors(node: Any, recorded: dict[Ref, Shape]) -> Iterator[Ref]:
    """The tensors of one call, in order of their first mention."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            config = node["config"]
            ref = _ref(config["keras_history"])
            shape = config.get("shape")
            recorded[ref] = None if shape is None else tuple(shape)
            yield ref
            return
        for value in node.values():
            yield from _tensors(value, recorded)
    elif isinstance(node, list):
        if _is_ref(node):
            if node[0] != "_CONSTANT_VALUE":
                yield _ref(node)
            node = node[3:]
        for value in node:
            yield from _tensors(value, recorded)


def _is_ref(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 3
        and isinstance(value[0], str)
        and type(value[1]) is int
        and (type(value[2]) is int or value[0] == "_CONSTANT_VALUE")
    )


def _ref(value: Any) -> Ref:
    return str(value[0]), int(value[1]), int(value[2])


def _refs(value: Any) -> tuple[Ref, ...]:
    """Input or output tensors: one, a list, or a dict of them."""
    if _is_ref(value):
        return (_ref(value),)
    if not isinstance(value, dict | list):
        raise ValueError(f"{value!r} is no tensor")
    items = value.values() if isinstance(value, dict) else value
    return tuple(ref for item in items for ref in _refs(item))
