"""TFLite files read without an interpreter: signatures, tensors, operators.

Field numbers: tflite/schema/schema.fbs (Model, SubGraph, Tensor, Operator, OperatorCode, SignatureDef, Buffer).
"""

from collections import Counter
from dataclasses import dataclass, field

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.flatbuffer import Table
from pipcook_deploy.formats.tflite_ops import BUILTIN_OPERATORS
from pipcook_deploy.spec import Signature, TensorSpec

_TYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
    "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16",
)  # fmt: skip


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor of a subgraph. `size` are the bytes of its constant, 0 for an activation."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    size: int


@dataclass(frozen=True)
class TfliteOperator:
    """An operator with the numbers of its tensors (-1: an optional one that is absent)."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None = field(repr=False)


@dataclass(frozen=True)
class Subgraph:
    """Tensors and operators of one graph."""

    name: str
    tensors: tuple[TfliteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[TfliteOperator, ...]


@dataclass(frozen=True)
class TfliteFile:
    """What a TFLite file says. `signatures` is empty in files without signature definitions."""

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...] = field(repr=False)
    signatures: dict[str, Signature]
    graph_signature: Signature
    weight_bytes: int
    ops: Counter[str]
    custom_ops: tuple[str, ...]


def is_tflite(head: bytes) -> bool:
    """Whether a file begins as TFLite files do."""
    return head[4:8] == b"TFL3"


def read_tflite(data: memoryview) -> TfliteFile:
    """Read a model. Raises `SourceError` for what is damaged or truncated."""
    model = Table.root(data)
    codes = [_operator_name(code) for code in model.tables(1)]
    sizes = [_buffer_size(buffer, len(data)) for buffer in model.tables(4)]
    subgraphs = tuple(_subgraph(graph, codes, sizes) for graph in model.tables(2))
    if not subgraphs:
        raise SourceError("damaged or not TFLite: there is no subgraph")
    main = subgraphs[0]
    ops = Counter(operator.name for graph in subgraphs for operator in graph.operators)
    return TfliteFile(
        version=model.integer(0, 4),
        description=model.text(3),
        subgraphs=subgraphs,
        signatures=dict(_signature(table, subgraphs) for table in model.tables(7)),
        graph_signature=Signature(
            inputs=tuple(_spec(main, i, None) for i in main.inputs),
            outputs=tuple(_spec(main, i, None) for i in main.outputs),
        ),
        weight_bytes=sum(sizes),
        ops=ops,
        custom_ops=tuple(sorted({name for name, custom in codes if custom and name in ops})),
    )


def _operator_name(code: Table) -> tuple[str, bool]:
    # Files before schema 3a have only the 8-bit code; newer ones clamp it to 127 and use field 3.
    number = max(code.integer(0, 1), code.integer(3, 4))
    name = BUILTIN_OPERATORS[number] if 0 <= number < len(BUILTIN_OPERATORS) else f"OP_{number}"
    return (code.text(1) or "CUSTOM", True) if name == "CUSTOM" else (name, False)


def _buffer_size(buffer: Table, file_size: int) -> int:
    offset, size = buffer.integer(1, 8), buffer.integer(2, 8)
    if offset > 1:  # data kept after the flatbuffer, for files beyond 2 GB
        if size < 0 or offset + size > file_size:
            raise SourceError("truncated: a weight lies beyond the end of the file")
        return size
    return buffer.byte_count(0)


def _subgraph(graph: Table, codes: list[tuple[str, bool]], sizes: list[int]) -> Subgraph:
    tensors = tuple(_tensor(tensor, sizes) for tensor in graph.tables(0))
    return Subgraph(
        name=graph.text(4),
        tensors=tensors,
        inputs=_indices(graph.integers(1), len(tensors)),
        outputs=_indices(graph.integers(2), len(tensors)),
        operators=tuple(_operator(op, codes, len(tensors)) for op in graph.tables(3)),
    )


def _operator(operator: Table, codes: list[tuple[str, bool]], count: int) -> TfliteOperator:
    code = operator.integer(0, 4)
    if not 0 <= code < len(codes):
        raise SourceError("damaged: an operator without a code")
    return TfliteOperator(
        name=codes[code][0],
        inputs=_indices(operator.integers(1), count, optional=True),
        outputs=_indices(operator.integers(2), count),
        options=operator.table(4),
    )


def _indices(values: list[int], count: int, optional: bool = False) -> tuple[int, ...]:
    if any(not (0 <= value < count or (optional and value == -1)) for value in values):
        raise SourceError("damaged: a tensor that does not exist is used")
    return tuple(values)


def _tensor(tensor: Table, sizes: list[int]) -> TfliteTensor:
    kind = tensor.integer(1, 1)
    signature = tensor.integers(7)
    shape = signature or tensor.integers(0)
    buffer = tensor.integer(2, 4)
    if not 0 <= buffer < max(1, len(sizes)):
        raise SourceError("damaged: a tensor without a buffer")
    return TfliteTensor(
        name=tensor.text(3),
        dtype=_TYPES[kind] if 0 <= kind < len(_TYPES) else f"type {kind}",
        shape=tuple(None if size < 0 else size for size in shape),
        size=sizes[buffer] if sizes else 0,
    )


def _spec(graph: Subgraph, index: int, name: str | None) -> TensorSpec:
    tensor = graph.tensors[index]
    try:
        return TensorSpec(name=name or tensor.name, dtype=tensor.dtype, shape=tensor.shape)
    except ValueError as error:
        raise SourceError(
            f"tensor {tensor.name!r} has the type {tensor.dtype}, which is not supported"
        ) from error


def _signature(table: Table, subgraphs: tuple[Subgraph, ...]) -> tuple[str, Signature]:
    index = table.integer(4, 4)
    if not 0 <= index < len(subgraphs):
        raise SourceError("damaged: a signature of a subgraph that does not exist")
    graph = subgraphs[index]
    sides: list[tuple[TensorSpec, ...]] = []
    for side in (0, 1):
        rows = [(row.text(0), row.integer(1, 4)) for row in table.tables(side)]
        _indices([number for _, number in rows], len(graph.tensors))
        sides.append(tuple(_spec(graph, number, name) for name, number in sorted(rows)))
    return table.text(2) or "serving_default", Signature(inputs=sides[0], outputs=sides[1])
