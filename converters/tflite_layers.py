"""The operators of a TFLite file under names that stay when the same model is converted again."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import ConversionError
from pipcook_deploy.formats.tflite_file import Subgraph, TfliteOperator, TfliteTensor, read_tflite


@dataclass(frozen=True)
class TfliteLayer:
    """One operator that computes with floats.

    `name` is that of its first output, with `#` and the operator's number where several have it or none;
    `weight` its largest constant, `shape` that one's shape (of the output without one), `parameters` the
    elements of all its constants. `place` are the numbers of its subgraph and of itself in it.
    """

    name: str
    weight: str | None
    kind: str
    shape: tuple[int | None, ...]
    parameters: int
    place: tuple[int, int]

    def matches(self, pattern: str) -> bool:
        """Whether a glob, or a name as it is, means this operator or its weight."""
        names = [name for name in (self.name, self.weight) if name is not None]
        return pattern in names or any(fnmatchcase(name, pattern) for name in names)


def layers(path: str) -> list[dict[str, Any]]:
    """The operators of a file as plain data: what `exclude` of the TFLite converter takes by name."""
    return [asdict(layer) for layer in read_layers(Path(path).read_bytes())]


def read_layers(data: bytes) -> list[TfliteLayer]:
    """The operators that compute with floats, in the order of the file."""
    subgraphs = read_tflite(memoryview(data)).subgraphs
    found = [
        _layer(graph, operator, (number, place))
        for number, graph in enumerate(subgraphs)
        for place, operator in enumerate(graph.operators)
        if _is_float(graph, operator)
    ]
    counts = Counter(layer.name for layer in found)
    return [layer if layer.name and counts[layer.name] == 1 else _told(layer) for layer in found]


def excluded(found: Iterable[TfliteLayer], patterns: Iterable[str]) -> set[tuple[int, int]]:
    """The places of what the globs mean. Raises `ConversionError` for a glob that means nothing."""
    rows = list(found)
    places = set()
    for pattern in patterns:
        meant = {layer.place for layer in rows if layer.matches(pattern)}
        if not meant:
            raise ConversionError(
                f"tflite: exclude: {pattern!r} is no operator or weight of the model",
                f"it has: {', '.join(layer.name for layer in rows)[:600]}",
            )
        places |= meant
    return places


def _layer(graph: Subgraph, operator: TfliteOperator, place: tuple[int, int]) -> TfliteLayer:
    output = graph.tensors[operator.outputs[0]]
    constants = _constants(graph, operator)
    weight = max(constants, key=lambda tensor: tensor.size, default=None)
    return TfliteLayer(
        name=output.name,
        weight=None if weight is None else weight.name,
        kind=operator.name,
        shape=(weight or output).shape,
        parameters=sum(prod(size or 0 for size in tensor.shape) for tensor in constants),
        place=place,
    )


def _told(layer: TfliteLayer) -> TfliteLayer:
    subgraph, operator = layer.place
    number = f"{subgraph}.{operator}" if subgraph else f"{operator}"
    return TfliteLayer(**(asdict(layer) | {"name": f"{layer.name or layer.kind}#{number}"}))


def _constants(graph: Subgraph, operator: TfliteOperator) -> list[TfliteTensor]:
    tensors = [graph.tensors[number] for number in operator.inputs if number >= 0]
    return [tensor for tensor in tensors if tensor.size and tensor.dtype.startswith("float")]


def _is_float(graph: Subgraph, operator: TfliteOperator) -> bool:
    return any(graph.tensors[number].dtype == "float32" for number in operator.outputs)
