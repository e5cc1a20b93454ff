"""SavedModels: one signature opened for use, and the same bytes for the same model."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Binding
from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_names import (
    parameters,
    read_proto,
    rename_keys,
    rename_strings,
    signature_names,
    write_plain,
)

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

    `function` takes tensors by parameter name, which `parameters` tells for each input key, and returns
    tensors by output key. `owner` keeps the variables alive. `folder` is what was loaded: a copy, if names
    had to be changed, in which inputs are called as in `plain`.
    """

    name: str
    function: Any
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[tuple[str, Any], ...]
    parameters: Mapping[str, str]
    owner: Any
    folder: Path
    plain: Mapping[str, str]

    def call(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Answers by output key."""
        answers: dict[str, Any] = self.function(
            **{self.parameters[key]: value for key, value in tensors.items()}
        )
        return answers

    def tensors(self) -> dict[str, str]:
        """Names of the graph's tensors by input key."""
        captured = {t.name for t in self.function.graph.function_captures.by_val_internal.values()}
        given = [tensor.name for tensor in self.function.inputs if tensor.name not in captured]
        by_parameter = dict(
            zip(sorted(self.function.structured_input_signature[1]), given, strict=True)
        )
        return {key: by_parameter[self.parameters[key]] for key, _ in self.inputs}


@contextmanager
def opened_signature(model: Model) -> Iterator[Serving]:
    """The signature that the spec describes: `model.signature`, or `serving_default`, or the only one.

    At the end of the block the folder that was loaded may go. Raises `SourceError`.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
        try:
            proto = read_proto(model.path)
            name = _choose(model, signature_names(proto))
            names = parameters(proto)
            folder = model.path
            if any(old != new for old, new in names.items()):
                folder = write_plain(folder, proto, names, Path(scratch))
            owner = tf.saved_model.load(str(folder))
        except (OSError, ValueError, RuntimeError, DecodeError, tf.errors.OpError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SourceError(f"{model.path}: TensorFlow cannot open it: {reason[:300]}") from error
        yield _serving(owner, name, names, folder)


def open_signature(model: Model) -> Serving:
    """The same where the folder is not needed any more."""
    with opened_signature(model) as serving:
        return serving


def _serving(owner: Any, name: str, names: Mapping[str, str], folder: Path) -> Serving:
    function = owner.signatures[name]
    specs = function.structured_input_signature[1]
    keys = {parameter: key for key, parameter in names.items()}
    # TensorFlow itself may have changed a name while saving; the tensor's own is the right one then.
    named = {keys.get(p) or keys[spec.name]: p for p, spec in specs.items()}
    inputs = sorted((key, specs[parameter]) for key, parameter in named.items())
    outputs = sorted(function.structured_outputs.items())
    return Serving(name, function, tuple(inputs), tuple(outputs), named, owner, folder, names)


def _choose(model: Model, names: list[str]) -> str:
    wanted = model.signature or DEFAULT
    if wanted in names:
        return wanted
    if model.signature is None and len(names) == 1:
        return names[0]
    raise SourceError(
        f"{model.path}: has no signature {wanted!r} (found: {', '.join(names) or 'none'})",
        f"say which one to use: --signature {'|'.join(names) or 'NAME'}",
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
    path = folder / "saved_model.pb"
    proto = read_proto(folder)
    for graph in proto.meta_graphs:
        names = _renumbered([f.signature.name for f in graph.graph_def.library.function])
        rename_strings(graph, names)
        for signature in graph.signature_def.values():
            rename_keys(signature.inputs, renamed_keys or {})
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
