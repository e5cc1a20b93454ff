"""ONNX files read without the onnx package: the interface, the operators, the external files.

Field numbers: onnx.proto of ONNX 1.x (ModelProto, GraphProto, NodeProto, TensorProto, ValueInfoProto).
"""

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.protobuf_wire import BYTES, Message, decode, fields
from pipcook_deploy.spec import TensorSpec

Shape = tuple[int | None, ...]
OLDEST_OPSET = 8

# TensorProto.DataType -> (numpy's name, bits of an element; 0 where it varies)
_TYPES = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16),
    11: ("float64", 64), 12: ("uint32", 32), 13: ("uint64", 64), 14: ("complex64", 64),
    15: ("complex128", 128), 16: ("bfloat16", 16), 17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8), 19: ("float8e5m2", 8), 20: ("float8e5m2fnuz", 8), 21: ("uint4", 4),
    22: ("int4", 4), 23: ("float4e2m1", 4), 24: ("float8e8m0", 8),
}  # fmt: skip


@dataclass(frozen=True)
class OnnxNode:
    """One operator. `integers` are its integer and list-of-integer attributes."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class OnnxFile:
    """What an ONNX file says about itself. `shapes` are of every tensor whose shape the file tells."""

    ir_version: int
    producer: str
    opsets: dict[str, int]
    graph_name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    unranked: tuple[str, ...]
    nodes: tuple[OnnxNode, ...] = field(repr=False)
    initializers: dict[str, tuple[int, ...]] = field(repr=False)
    shapes: dict[str, Shape] = field(repr=False)
    weight_bytes: int = 0
    external: tuple[Path, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    ops: Counter[str] = field(default_factory=Counter)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.opsets.get("", 0)


def looks_like_onnx(head: bytes) -> bool:
    """Whether a file may be ONNX: it begins with an IR version and goes on with a field of ModelProto."""
    if len(head) < 3 or head[0] != 0x08 or not 1 <= head[1] <= 30:
        return False
    return head[2] in {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72}


def read_onnx(data: memoryview, folder: Path) -> OnnxFile:
    """Read a model; external files are looked for in `folder`.

    Raises `SourceError` for what is not ONNX, is truncated, is older than opset 8, or has external data that
    is missing, too short or outside of `folder`.
    """
    model = Message.read(data)
    if not model.has(7):
        raise SourceError("damaged or not ONNX: there is no graph")
    opsets = {_domain(entry.text(1)): entry.integer(2) for entry in model.messages(8)}
    opset = opsets.get("", 0)
    if "" in opsets and opset < OLDEST_OPSET:
        raise SourceError(
            f"ONNX opset {opset} is older than {OLDEST_OPSET}",
            "run: python -c 'import onnx; onnx.save(onnx.version_converter.convert_version("
            'onnx.load("old.onnx"), 13), "new.onnx")\'',
        )
    if not opsets:
        raise SourceError("damaged or not ONNX: no operator set is imported")
    graph = model.message(7)
    tensors, external, weight_bytes = _initializers(graph, folder)
    values = [_value(view) for number in (11, 12, 13) for view in graph.messages(number)]
    nodes = tuple(_node(view) for view in graph.messages(1))
    if not nodes and not graph.has(12):
        raise SourceError("damaged or not ONNX: the graph has neither operators nor outputs")
    inputs = [_value(view) for view in graph.messages(11)]
    outputs = [_value(view) for view in graph.messages(12)]
    interface = [value for value in inputs if value[0] not in tensors] + outputs
    return OnnxFile(
        ir_version=model.integer(1),
        producer=" ".join(part for part in (model.text(2), model.text(3)) if part),
        opsets=opsets,
        graph_name=graph.text(2),
        inputs=tuple(_spec(value) for value in inputs if value[0] not in tensors),
        outputs=tuple(_spec(value) for value in outputs),
        unranked=tuple(name for name, _, shape in interface if shape is None),
        nodes=nodes,
        initializers=tensors,
        shapes={name: shape for name, _, shape in values if shape is not None} | dict(tensors),
        weight_bytes=weight_bytes,
        external=external,
        metadata={entry.text(1): entry.text(2) for entry in model.messages(14)},
        ops=Counter(f"{node.domain}:{node.op}" if node.domain else node.op for node in nodes),
    )


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _spec(value: tuple[str, str, Shape | None]) -> TensorSpec:
    name, dtype, shape = value
    try:
        return TensorSpec(name=name, dtype=dtype, shape=(None,) if shape is None else shape)
    except ValueError as error:
        raise SourceError(
            f"tensor {name!r} has the type {dtype}, which is not supported"
        ) from error


def _value(info: Message) -> tuple[str, str, Shape | None]:
    kind = info.message(2)
    if not kind.has(1):
        return info.text(1), "a sequence or a map", None
    tensor = kind.message(1)
    dtype = _TYPES.get(tensor.integer(1), (f"unknown ({tensor.integer(1)})", 0))[0]
    if not tensor.has(2):
        return info.text(1), dtype, None
    dims = tensor.message(2).messages(1)
    shape = tuple(dim.integer(1) if dim.has(1) and dim.integer(1) >= 0 else None for dim in dims)
    return info.text(1), dtype, shape


def _node(node: Message) -> OnnxNode:
    integers: dict[str, tuple[int, ...]] = {}
    for attribute in node.messages(5):
        numbers = [attribute.integer(3)] if attribute.has(3) else attribute.integers(8)
        if numbers:
            integers[attribute.text(1)] = tuple(numbers)
    return OnnxNode(
        name=node.text(3),
        op=node.text(4),
        domain=_domain(node.text(7)),
        inputs=tuple(node.texts(1)),
        outputs=tuple(node.texts(2)),
        integers=integers,
    )


def _initializers(
    graph: Message, folder: Path
) -> tuple[dict[str, tuple[int, ...]], tuple[Path, ...], int]:
    shapes: dict[str, tuple[int, ...]] = {}
    external: dict[Path, None] = {}
    total = 0
    for tensor in graph.all_bytes(5):
        name, shape, size, file = _tensor(tensor, folder)
        shapes[name] = shape
        total += size
        if file is not None:
            external[file] = None
    for sparse in graph.messages(15):
        shapes[sparse.message(1).text(8)] = tuple(sparse.integers(3))
    return shapes, tuple(external), total


def _tensor(data: memoryview, folder: Path) -> tuple[str, tuple[int, ...], int, Path | None]:
    """Name, shape, bytes and external file; values that are not raw are not walked through."""
    values = {n: v for n, kind, v in fields(data) if kind == BYTES and n in (8, 9)}
    tensor = Message.read(data)
    raw = values.get(9)
    name, shape = tensor.text(8), tuple(tensor.integers(1))
    if any(n < 0 for n in shape):
        raise SourceError(f"damaged: the weight {name!r} has the shape {shape}")
    bits = _TYPES.get(tensor.integer(2), ("", 0))[1]
    size = (prod(shape) * bits + 7) // 8
    if tensor.integer(14) == 1:
        return name, shape, size, _external(name, tensor, folder, size)
    if isinstance(raw, memoryview) and bits and len(raw) != size:
        raise SourceError(f"damaged: the weight {name!r} has {len(raw)} bytes instead of {size}")
    return name, shape, size, None


def _external(name: str, tensor: Message, folder: Path, size: int) -> Path:
    entries = {decode(e.all_bytes(1)[-1]): e.text(2) for e in tensor.messages(13) if e.has(1)}
    location = entries.get("location", "")
    path = PurePosixPath(location)
    inside = location and not path.is_absolute() and ".." not in path.parts
    if not inside or "\\" in location or ":" in location or "\0" in location:
        raise SourceError(f"the external data {location!r} of {name!r} leaves the model's folder")
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"the external data {location!r} is a link out of the model's folder")
    if not file.is_file():
        raise SourceError(
            f"the external data {location!r} of {name!r} is missing",
            "copy it into the folder of the .onnx file",
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError as error:
        raise SourceError(f"the external data of {name!r} has no valid offset") from error
    if offset < 0 or length < size or offset + length > file.stat().st_size:
        raise SourceError(f"the external data {location!r} is truncated: {name!r} does not fit")
    return file
