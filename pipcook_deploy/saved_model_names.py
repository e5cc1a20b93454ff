"""SavedModels whose inputs have names that Python parameters cannot have: `a/b:0`, `class`, `1x`.

TensorFlow 2 calls signatures by keyword, so it renames such inputs or cannot open the model at all.
"""

import keyword
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_INNER = ("__saved_model_init_op", "__saved_model_train_op")


def is_plain(name: str) -> bool:
    """Whether TensorFlow takes it for a parameter as it is."""
    identifier = name.isidentifier() and name.isascii() and not keyword.iskeyword(name)
    return identifier and not name.startswith("_")


def read_proto(folder: Path) -> Any:
    """`saved_model.pb` of a folder. Raises `google.protobuf.message.DecodeError`, `OSError`."""
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def signature_names(proto: Any) -> list[str]:
    """Signatures that can be called."""
    found = {name for graph in proto.meta_graphs for name in graph.signature_def}
    return sorted(found.difference(_INNER))


def parameters(proto: Any) -> dict[str, str]:
    """Parameter names by input name, over all signatures."""
    signatures = [s for graph in proto.meta_graphs for s in graph.signature_def.values()]
    return parameter_names({key for signature in signatures for key in signature.inputs})


def parameter_names(inputs: Iterable[str]) -> dict[str, str]:
    """Parameter names by input name: plain ones stay, others are numbered in the order of all names."""
    return {
        name: name if is_plain(name) else f"pipcook_input_{number}"
        for number, name in enumerate(sorted(inputs))
    }


def write_plain(folder: Path, proto: Any, names: dict[str, str], scratch: Path) -> Path:
    """A copy below `scratch` with renamed inputs; weights and assets are links to the original's."""
    changes = {old: new for old, new in names.items() if old != new}
    for graph in proto.meta_graphs:
        for signature in graph.signature_def.values():
            rename_keys(signature.inputs, changes)
        objects = graph.object_graph_def
        for function in objects.concrete_functions.values():
            rename_strings(function, changes)
        for node in objects.nodes:
            if node.HasField("bare_concrete_function"):
                rename_strings(node.bare_concrete_function, changes)
    copy = scratch / "plain_names"
    copy.mkdir()
    (copy / "saved_model.pb").write_bytes(proto.SerializeToString(deterministic=True))
    for part in ("variables", "assets"):
        if (folder / part).exists():
            (copy / part).symlink_to((folder / part).resolve())
    return copy


def rename_keys(table: Any, names: dict[str, str]) -> None:
    """Rename keys of a protobuf map of messages."""
    found = [key for key in list(table) if key in names and hasattr(table[key], "DESCRIPTOR")]
    moved = {old: table[old].SerializeToString(deterministic=True) for old in found}
    kinds = {old: type(table[old]) for old in found}
    for old in moved:
        del table[old]
    for old, data in moved.items():
        table[names[old]].CopyFrom(kinds[old].FromString(data))


def rename_strings(message: Any, names: dict[str, str]) -> None:
    """Replace whole strings in every field of a protobuf message, keys of maps of messages too."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        if field.type == field.TYPE_STRING:
            _rename_field(message, field.name, value, names)
        elif hasattr(value, "DESCRIPTOR"):
            rename_strings(value, names)
        elif hasattr(value, "keys"):
            _rename_map(value, names)
        else:
            for item in value:
                rename_strings(item, names)


def _rename_field(message: Any, name: str, value: Any, names: dict[str, str]) -> None:
    if isinstance(value, str):
        setattr(message, name, names.get(value, value))
    else:
        for index, text in enumerate(value):
            value[index] = names.get(text, text)


def _rename_map(table: Any, names: dict[str, str]) -> None:
    rename_keys(table, names)
    for key in list(table):
        if hasattr(table[key], "DESCRIPTOR"):
            rename_strings(table[key], names)
        elif isinstance(table[key], str):
            table[key] = names.get(table[key], table[key])
