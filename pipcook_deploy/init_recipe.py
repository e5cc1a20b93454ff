"""Writes a commented deploy.toml for a model."""

import json
from pathlib import Path
from typing import Any

from pipcook_deploy import plugins
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import OutputError, UnsupportedConversionError
from pipcook_deploy.model import Model
from pipcook_deploy.planner import plan
from pipcook_deploy.spec import TensorSpec

COMPRESSION = (
    "",
    "# The smallest artifacts that lose at most half a point of accuracy, proven on data of your own.",
    "# [data]",
    '# evaluation = "data/test"  # images by class, .npz, .csv, or idx; labelled',
    '# train = "data/train"      # lets the search prune, and train again what it pruned',
    "# [budget]",
    "# max_drop = 0.005",
    '# goal = "size"             # or "latency", "balanced"',
)


def write_recipe(model: Model, source: Path, out: Path, *, force: bool = False) -> None:
    """Write the recipe to `out`; raises `OutputError` if it is there or cannot be written."""
    if out.exists() and not force:
        raise OutputError(f"{out}: is there already", "add --force to replace it")
    try:
        relative = source.absolute().relative_to(out.absolute().parent)
    except ValueError:
        relative = source.absolute()
    try:
        out.write_text(render_recipe(model, relative.as_posix()), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error


def render_recipe(model: Model, source: str) -> str:
    """The recipe as text; what the model says of itself stands there as comments."""
    spec = model.spec
    lines = [
        "# The recipe of a deploy stage. Run it: pipcook-deploy run",
        "# Every option of every plugin: pipcook-deploy plugins",
        "",
        "[model]",
        f"source = {_quote(source)}  # {model.format}",
        f"name = {_quote(spec.name)}",
        f"version = {_quote(spec.version)}",
        f"task = {_quote(spec.task)}",
        *_optional("license", spec.license, "MIT"),
        *_labels(model),
        *(_comment(f"input  {_tensor(tensor)}") for tensor in spec.inputs),
        *(_comment(f"output {_tensor(tensor)}") for tensor in spec.outputs),
        *(_comment(f"note: {note}") for note in spec.notes),
        *_preprocessing(model),
        "",
        "[samples]",
        "# Folder of images by class, or .npz/.npy of tensors. Random ones prove parity, not accuracy.",
        '# path = "samples"',
        "count = 16  # golden samples kept in the bundle",
        "seed = 0",
        *COMPRESSION,
        "",
        "[bundle]",
        f"out = {_quote('dist/' + spec.name)}",
    ]
    for kind in _reachable(model):
        lines += ["", f"[convert.{kind.format}]", *_plugin_options(kind)]
    return "\n".join(lines) + "\n"


def _reachable(model: Model) -> list[type[Converter]]:
    installed = [plugins.converter(name) for name in plugins.names(plugins.CONVERTERS)]
    found = []
    for kind in installed:
        if kind.intermediate:
            continue
        try:
            plan(model.format, [kind()], installed)
        except UnsupportedConversionError:
            continue
        found.append(kind)
    return found


def _plugin_options(kind: Any) -> list[str]:
    lines = []
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if field.description:
            lines.append(f"# {field.description}")
        text = "..." if default is None else json.dumps(default, default=str)
        lines.append(f"# {name} = {text}")
    return lines


def _labels(model: Model) -> list[str]:
    labels = model.spec.labels
    if labels:
        return [f"labels = {json.dumps(list(labels), ensure_ascii=False)}"]
    return ['# labels = ["cat", "dog"]  # or a file, one label a line: labels = "labels.txt"']


def _preprocessing(model: Model) -> list[str]:
    if model.spec.preprocessing:
        return ["# preprocessing: taken from the source; state it here to replace it"]
    if not any(len(tensor.shape) == 4 for tensor in model.spec.inputs):
        return []
    height, width = _image_size(model.spec.inputs)
    return [
        "",
        "# How an image becomes the input; without it callers must send tensors.",
        "# [[model.preprocessing]]",
        '# op = "decode"',
        "# [[model.preprocessing]]",
        '# op = "resize"',
        f"# height = {height}",
        f"# width = {width}",
        "# [[model.preprocessing]]",
        '# op = "scale"',
        "# factor = 0.00392156862745098",
    ]


def _image_size(inputs: tuple[TensorSpec, ...]) -> tuple[int, int]:
    for tensor in inputs:
        if len(tensor.shape) == 4 and tensor.shape[1] and tensor.shape[2]:
            return tensor.shape[1], tensor.shape[2]
    return 224, 224


def _optional(key: str, value: str | None, example: str) -> list[str]:
    return [f"{key} = {_quote(value)}" if value else f"# {key} = {_quote(example)}"]


def _tensor(tensor: TensorSpec) -> str:
    shape = ", ".join("?" if axis is None else str(axis) for axis in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} [{shape}]"


def _comment(text: str) -> str:
    """One line, whatever a source calls its tensors."""
    return "# " + "".join(c if c.isprintable() else " " for c in text)


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
