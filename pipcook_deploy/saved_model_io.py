"""SavedModels: one signature opened for use, and the same bytes for the same model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Binding
from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model

DEFAULT = "serving_default"
_NUMBERED = re.compile(r"_\d+$")
# What gradients and graphics processors would use; their values count up or are random.
_DROPPED = (
    "api_implements", "api_preferred_device", "forward_function_name", "backward_function_name",
    "_gradient_op_type", "_user_specified_name",
)  # fmt: skip


@dataclass(frozen=True)
class Serving:
    """A signature of a loaded SavedModel. `inputs` and `outputs` list (key, tf.TensorSpec), by key.

    `function` takes tensors by input key and returns tensors by output key. `owner` keeps the variables alive.
    """

    function: Any
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[tuple[str, Any], ...]
    owner: Any


def open_signature(model: Model) -> Serving:
    """The signature that the spec describes: `model.signature`, or `serving_default`, or the only one."""
    import tensorflow as tf

    try:
        owner = tf.saved_model.load(str(model.path))
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{model.path}: TensorFlow cannot open it: {reason[:300]}") from error
    name = _choose(model, sorted(owner.signatures))
    function = owner.signatures[name]
    inputs = function.structured_input_signature[1]
    return Serving(
        function,
        tuple((key, inputs[key]) for key in sorted(inputs)),
        tuple(
            (key, function.structured_outputs[key]) for key in sorted(function.structured_outputs)
        ),
        owner,
    )


def _choose(model: Model, names: list[str]) -> str:
    wanted = model.signature or DEFAULT
    if wanted in names:
        return wanted
    if model.signature is None and len(names) == 1:
        return names[0]
    raise SourceError(
        f"{model.path}: has no signature {wanted!r} (found: {', '.join(names) or 'none'})",
        "say which one to use: --signature NAME",
    )


def binding(name: str, tensor: str, spec: Any) -> Binding:
    """A binding from a `tf.TensorSpec`."""
    return Binding(name, tensor, dtype_name(spec.dtype), static_shape(spec.shape))


def dtype_name(dtype: Any) -> str:
    """A `tf.DType` as specs spell it."""
    return str(dtype.name)


def static_shape(shape: Any) -> tuple[int | None, ...]:
    """A `tf.TensorShape` as specs spell it; an unknown rank is told as no axes."""
    return () if shape.rank is None else tuple(shape.as_list())


def canonicalize(folder: Path, renamed_keys: dict[str, str] | None = None) -> None:
    """Rewrite `saved_model.pb` so that it depends on the model alone.

    Functions are numbered from 0 instead of by a process-wide counter, maps are written in order, traces of
    gradients and stack traces go. `fingerprint.pb` holds a random id, and is optional: removed.
    `renamed_keys` gives signature inputs names that Python parameters cannot have.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in proto.meta_graphs:
        names = _renumbered([f.signature.name for f in graph.graph_def.library.function])
        renames = names | (renamed_keys or {})
        _rewrite(graph, renames)
        for signature in graph.signature_def.values():
            _rename_keys(signature.inputs, renamed_keys or {})
        _rename_keys(graph.object_graph_def.concrete_functions, names)
        for node in _nodes(graph.graph_def):
            _drop(node.attr)
        for function in graph.graph_def.library.function:
            for table in (function.attr, *(a.attr for a in function.arg_attr.values())):
                _drop(table)
        graph.graph_def.library.ClearField("gradient")
        ordered = sorted(graph.graph_def.library.function, key=lambda f: str(f.signature.name))
        copies = [type(f).FromString(f.SerializeToString(deterministic=True)) for f in ordered]
        del graph.graph_def.library.function[:]
        graph.graph_def.library.function.extend(copies)
        graph.graph_def.ClearField("debug_info")
    path.write_bytes(proto.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _renumbered(names: list[str]) -> dict[str, str]:
    """New names by the order of the old numbers, which is the order of tracing."""
    counted = [name for name in names if _NUMBERED.search(name)]
    counted.sort(key=lambda name: int(name.rsplit("_", 1)[1]))
    return {name: f"{name.rsplit('_', 1)[0]}_{n}" for n, name in enumerate(counted)}


def _drop(attributes: Any) -> None:
    for name in _DROPPED:
        attributes.pop(name, None)


def _nodes(graph_def: Any) -> list[Any]:
    inner = [node for function in graph_def.library.function for node in function.node_def]
    return [*graph_def.node, *inner]


def _rename_keys(table: Any, names: dict[str, str]) -> None:
    for old, new in names.items():
        if old in table:
            value = type(table[old]).FromString(table[old].SerializeToString(deterministic=True))
            del table[old]
            table[new].CopyFrom(value)


def _rewrite(message: Any, change: Mapping[str, str]) -> None:
    """Replace whole strings by `change` in every field of a protobuf message, keys of maps aside."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        if field.type == field.TYPE_STRING:
            _rewrite_strings(message, field.name, value, change)
        elif hasattr(value, "DESCRIPTOR"):
            _rewrite(value, change)
        elif hasattr(value, "keys"):
            _rewrite_map(value, change)
        else:
            for item in value:
                _rewrite(item, change)


def _rewrite_strings(message: Any, name: str, value: Any, change: Mapping[str, str]) -> None:
    if isinstance(value, str):
        setattr(message, name, change.get(value, value))
    else:
        for index, text in enumerate(value):
            value[index] = change.get(text, text)


def _rewrite_map(table: Any, change: Mapping[str, str]) -> None:
    for key in list(table):
        if hasattr(table[key], "DESCRIPTOR"):
            _rewrite(table[key], change)
        elif isinstance(table[key], str):
            table[key] = change.get(table[key], table[key])
