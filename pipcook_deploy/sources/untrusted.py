"""Finds what loading or running a model would execute: Python in layers, and operators that reach out."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipcook_deploy.errors import UntrustedSourceError

_HINT = "if you trust its maker, run again with --trust-source"
_OWN = ("keras", "tf_keras", "tensorflow.keras", "builtins")
_CODE_CLASSES = {"Lambda", "__lambda__"}
# `TFOpLambda` names any TensorFlow symbol; these reach files, the network or Python.
_REACHING = (
    "io.", "raw_ops.", "py_function", "numpy_function", "load_", "compat.", "config.", "data.",
    "distribute.", "queue.", "saved_model.", "summary.", "train.", "debugging.", "experimental.",
    "autograph.", "profiler.", "__",
)  # fmt: skip
_REACHING_OPS = {
    "PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles",
    "ImmutableConst", "GenericFunction", "PyOp", "PythonOp",
}  # fmt: skip


def check_layers(where: str, topology: Any, trusted: bool) -> None:
    """Refuse a Keras topology with code in it. Raises `UntrustedSourceError` unless `trusted`."""
    if trusted:
        return
    for config in _dicts(topology):
        found = _code(config)
        if found:
            raise UntrustedSourceError(f"{where}: {found}", _HINT)


def check_ops(where: str, ops: Iterable[str], trusted: bool) -> None:
    """Refuse a graph with operators that run Python or reach files. Unless `trusted`, as above."""
    found = sorted(_REACHING_OPS.intersection(ops))
    if found and not trusted:
        raise UntrustedSourceError(
            f"{where}: the graph runs Python or reads and writes files: {', '.join(found)}", _HINT
        )


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every dict of nested data; a stack, so that depth is no danger."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)


def _code(config: dict[str, Any]) -> str | None:
    """What in one object of a topology is code, in words."""
    name = config.get("class_name")
    inner = config.get("config")
    title = inner.get("name", name) if isinstance(inner, dict) else name
    if config.get("function_type") is not None or (isinstance(name, str) and name in _CODE_CLASSES):
        return f"the layer {title!r} carries Python code (a Lambda)"
    if name == "TFOpLambda" and isinstance(inner, dict):
        function = str(inner.get("function"))
        if function.startswith(_REACHING):
            return f"the layer {title!r} calls tf.{function}"
    registered = config.get("registered_name")
    custom = [n for n in (name, registered) if isinstance(n, str) and ">" in n]
    if custom:
        return f"{title!r} needs the custom class {custom[0]!r}, which is Python code"
    module = config.get("module")
    if isinstance(module, str) and isinstance(name, str):
        root = module.split(".", 1)[0]
        if root not in _OWN and not module.startswith("tensorflow.keras"):
            return f"{title!r} needs {module}.{name}, which is Python code"
        if root == "builtins" and name not in ("function", "str", "int", "float", "bool"):
            return f"{title!r} needs {module}.{name}, which is Python code"
    return None
