"""`saved_model.pb` read without TensorFlow: signatures, versions and operators.

Field numbers: saved_model.proto, meta_graph.proto, graph.proto and types.proto of TensorFlow.
"""

from collections import Counter
from dataclasses import dataclass, field

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.protobuf_wire import Message
from pipcook_deploy.spec import Signature, TensorSpec

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string",
    8: "complex64", 9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 19: "float16",
    22: "uint32", 23: "uint64",
}  # fmt: skip
_INIT = "__saved_model_init_op"


@dataclass(frozen=True)
class SavedModelFile:
    """What `saved_model.pb` says. `native` maps a signature to {its name: the graph's tensor name}."""

    tensorflow: str
    tags: tuple[str, ...]
    signatures: dict[str, Signature]
    unranked: dict[str, tuple[str, ...]]
    skipped: dict[str, str]
    ops: Counter[str] = field(default_factory=Counter)
    assets: tuple[str, ...] = ()


def read_saved_model(data: memoryview) -> SavedModelFile:
    """Read the graph tagged `serve`, or the only one.

    Raises `SourceError` for what is damaged, not a SavedModel, or has no graph for serving.
    """
    graphs = Message.read(data).messages(2)
    if not graphs:
        raise SourceError("damaged or not a SavedModel: there is no graph")
    tags = [tuple(graph.message(1).texts(4)) for graph in graphs]
    serving = [i for i, names in enumerate(tags) if "serve" in names] or [0]
    if len(graphs) > 1 and not any("serve" in names for names in tags):
        raise SourceError(f"none of the graphs is tagged 'serve': {sorted(tags)}")
    meta = graphs[serving[0]]
    signatures: dict[str, Signature] = {}
    unranked: dict[str, tuple[str, ...]] = {}
    skipped: dict[str, str] = {}
    for entry in meta.messages(5):
        name = entry.text(1)
        if name != _INIT:
            _signature(name, entry.message(2), signatures, unranked, skipped)
    return SavedModelFile(
        tensorflow=meta.message(1).text(5),
        tags=tags[serving[0]],
        signatures=signatures,
        unranked=unranked,
        skipped=skipped,
        ops=_ops(meta.message(2)),
        assets=tuple(asset.text(2) for asset in meta.messages(6)),
    )


def _signature(
    name: str,
    message: Message,
    signatures: dict[str, Signature],
    unranked: dict[str, tuple[str, ...]],
    skipped: dict[str, str],
) -> None:
    unknown: list[str] = []
    sides: list[tuple[TensorSpec, ...]] = []
    for side in (1, 2):
        specs = []
        for entry in message.messages(side):
            info = entry.message(2)
            dtype = DTYPES.get(info.integer(2))
            if dtype is None or info.has(4) or info.has(5):
                skipped[name] = f"{entry.text(1)!r} is not a dense tensor of a known type"
                return
            shape = _shape(info.message(3))
            if shape is None:
                unknown.append(entry.text(1))
            specs.append(TensorSpec(name=entry.text(1), dtype=dtype, shape=shape or ()))
            if shape is None:
                specs[-1] = TensorSpec(name=entry.text(1), dtype=dtype, shape=(None,))
        sides.append(tuple(sorted(specs, key=lambda spec: spec.name)))
    signatures[name] = Signature(inputs=sides[0], outputs=sides[1])
    unranked[name] = tuple(unknown)


def _shape(message: Message) -> tuple[int | None, ...] | None:
    if message.integer(3):
        return None
    sizes = (dim.integer(1) for dim in message.messages(2))
    return tuple(None if size < 0 else size for size in sizes)


def _ops(graph: Message) -> Counter[str]:
    ops = Counter(node.text(2) for node in graph.messages(1))
    for function in graph.message(2).messages(1):
        ops.update(node.text(2) for node in function.messages(3))
    return ops
