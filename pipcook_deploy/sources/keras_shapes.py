"""Shapes through a Keras graph, and the interface that follows from them."""

from dataclasses import dataclass, field, replace
from typing import Any

from pipcook_deploy.errors import SourceError
from pipcook_deploy.sources.keras_topology import Graph, Layer, Ref, Shape
from pipcook_deploy.sources.layer_math import UNKNOWN, Effect
from pipcook_deploy.sources.layer_rules import apply
from pipcook_deploy.spec import DTYPES, TensorSpec
from pipcook_deploy.text import numbered

MAX_ROWS = 20_000


@dataclass(frozen=True)
class Row:
    """A layer as used: `path` is its name within its models ("resnet/conv1")."""

    path: str
    class_name: str
    effect: Effect


@dataclass(frozen=True)
class Interface:
    """Tensors of a graph, notes on what its config does not tell, and for inputs that are ids their number."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()
    ids: dict[str, int] = field(default_factory=dict)


# Results by graph and input shapes: a model that is used again gives the same.
Memo = dict[tuple[int, tuple[Shape, ...] | None], tuple[list[Row], list[Shape]]]


def propagate(
    graph: Graph, inputs: tuple[Shape, ...] | None = None, memo: Memo | None = None
) -> tuple[list[Row], list[Shape]]:
    """Effects of all layers, in order, and the shapes of the outputs.

    `inputs` are given where a graph is used as a layer; else its own input layers tell. `memo` is shared within one call.
    """
    memo = {} if memo is None else memo
    key = (id(graph), inputs)
    if key not in memo:
        memo[key] = _propagate(graph, inputs, memo)
    return memo[key]


def _propagate(
    graph: Graph, inputs: tuple[Shape, ...] | None, memo: Memo
) -> tuple[list[Row], list[Shape]]:
    shapes: dict[Ref, Shape] = {}
    offsets = _offsets(graph)
    rows: list[Row] = []
    for index, ref in enumerate(graph.inputs):
        own = _declared(graph.layer(ref[0]))
        shapes[ref] = inputs[index] if inputs and index < len(inputs) else own
    pending = [layer for layer in graph.layers if (layer.name, 0, 0) not in shapes or layer.calls]
    given = {ref[0] for ref in graph.inputs}
    rows.extend(Row(n, "InputLayer", Effect((shapes[n, 0, 0],))) for n in _inputs(graph, shapes))
    pending = [layer for layer in pending if layer.name not in given]
    while pending:
        waiting = []
        for layer in pending:  # nearly always in order already: one pass
            if not _ready(layer, shapes):
                waiting.append(layer)
                continue
            rows.extend(_run(layer, graph, shapes, offsets.get(layer.name, 0), memo))
        if len(waiting) == len(pending):  # it reads itself, or the graph is damaged
            first = waiting.pop(0)
            rows.extend(_run(first, graph, shapes, offsets.get(first.name, 0), memo))
        if len(rows) > MAX_ROWS:  # models that use models twice double at each level
            raise SourceError(f"the model {graph.name!r} has more than {MAX_ROWS} layers")
        pending = waiting
    return rows, [shapes.get(ref, graph.recorded.get(ref)) for ref in graph.outputs]


def interface(graph: Graph) -> Interface:
    """Inputs and outputs as Keras names them: by layer, `_1`, `_2`... added to a name met before."""
    _, shapes = propagate(graph)
    notes: list[str] = []
    inputs = [
        _spec(name, _declared(graph.layer(ref[0])), _dtype(graph.layer(ref[0]).config), notes)
        for name, ref in zip(_names(graph.inputs), graph.inputs, strict=True)
    ]
    outputs = [
        _spec(name, shape, _dtype(graph.layer(ref[0]).config), notes)
        for name, ref, shape in zip(_names(graph.outputs), graph.outputs, shapes, strict=True)
    ]
    return Interface(tuple(inputs), tuple(outputs), tuple(notes), _ids(graph))


def _ids(graph: Graph) -> dict[str, int]:
    """Inputs that an Embedding reads directly: ids from 0 to below its size, whatever their dtype."""
    names = dict(zip(graph.inputs, _names(graph.inputs), strict=True))
    found: dict[str, int] = {}
    for layer in graph.layers:
        size = layer.config.get("input_dim")
        if layer.class_name != "Embedding" or not isinstance(size, int):
            continue
        for ref in (ref for call in layer.calls for ref in call if ref in names):
            found[names[ref]] = min(size, found.get(names[ref], size))
    return found


def _inputs(graph: Graph, shapes: dict[Ref, Shape]) -> list[str]:
    return [ref[0] for ref in graph.inputs if (ref[0], 0, 0) in shapes]


def _offsets(graph: Graph) -> dict[str, int]:
    # Keras numbers the calls of a nested model from 1: node 0 is the model itself. Some versions do not.
    used = [ref for layer in graph.layers for call in layer.calls for ref in call]
    zero = {ref[0] for ref in (*used, *graph.outputs) if ref[1] == 0}
    return {x.name: int(x.name not in zero) for x in graph.layers if x.graph is not None}


def _ready(layer: Layer, shapes: dict[Ref, Shape]) -> bool:
    return all(ref in shapes for call in layer.calls for ref in call)


def _run(
    layer: Layer, graph: Graph, shapes: dict[Ref, Shape], offset: int, memo: Memo
) -> list[Row]:
    rows: list[Row] = []
    first_use = 0
    for node, call in enumerate(layer.calls or ((),)):
        given = tuple(shapes.get(ref, graph.recorded.get(ref)) for ref in call)
        if layer.graph is not None:
            inner, outputs = propagate(layer.graph, given or None, memo)
            found = [Row(f"{layer.name}/{r.path}", r.class_name, r.effect) for r in inner]
            rows.extend(row for row in found if row.class_name != "InputLayer")
        else:
            effect = apply(layer.class_name, layer.config, given)
            outputs = list(effect.outputs)
            known = graph.recorded.get((layer.name, node, 0))
            if outputs == [None] and known is not None:
                outputs = [known]
                effect = Effect((known,), UNKNOWN.parameters, UNKNOWN.macs)
            rows.append(Row(layer.name, layer.class_name, effect))
        if node:  # the same weights again
            rows = rows[:first_use] + [_reused(row) for row in rows[first_use:]]
        first_use = len(rows)
        for tensor, shape in enumerate(outputs):
            shapes[layer.name, node + offset, tensor] = shape
    return rows


def _reused(row: Row) -> Row:
    return Row(row.path, row.class_name, replace(row.effect, parameters=0))


def _declared(layer: Layer) -> Shape:
    shape: Any = layer.config.get("batch_input_shape") or layer.config.get("batch_shape")
    if isinstance(shape, list | tuple) and all(n is None or type(n) is int for n in shape):
        return tuple(shape)
    return None


def _dtype(config: dict[str, Any]) -> str:
    dtype: Any = config.get("dtype", "float32")
    if isinstance(dtype, dict):  # a dtype policy of Keras 3
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, dict) else None
    if isinstance(dtype, str) and dtype.startswith("mixed_"):
        dtype = dtype.removeprefix("mixed_")
    return dtype if isinstance(dtype, str) and dtype in DTYPES else "float32"


def _names(refs: tuple[Ref, ...]) -> list[str]:
    return numbered(base for base, _, _ in refs)


def _spec(name: str, shape: Shape, dtype: str, notes: list[str]) -> TensorSpec:
    if shape is None:
        notes.append(f"the shape of {name!r} cannot be told without running the model")
        return TensorSpec(name=name, dtype=dtype, shape=(None,))
    try:
        return TensorSpec(name=name, dtype=dtype, shape=shape)
    except ValueError as error:
        raise SourceError(f"tensor {name!r} has the shape {shape}") from error
