"""Shows an inspection on a terminal."""

from collections.abc import Sequence
from typing import Any

from pipcook_deploy.cli.console import say, table
from pipcook_deploy.inspect_model import Inspection, LayerRow
from pipcook_deploy.spec import ModelSpec, TensorSpec
from pipcook_deploy.text import human_bytes

MOST_LAYERS = 400


def print_inspection(found: Inspection) -> None:
    """Interface, layers, totals; what is unknown is shown as "?"."""
    spec = found.spec
    say(f"{spec.name} {spec.version}: {found.format}, {spec.task}")
    for key, value in found.details.items():
        if isinstance(value, str | int | float) and key not in ("parameters", "weight_bytes"):
            say(f"  {key}: {value}")
    _print_interface(spec)
    _print_layers(found.layers)
    if not found.layers and found.ops:
        listed = ", ".join(f"{name} x{count}" for name, count in found.ops.items())
        say(f"operators: {listed}")
    size = "?" if found.weight_bytes is None else human_bytes(found.weight_bytes)
    say(f"parameters {_count(found.parameters)}, MACs {_count(found.macs)}, weights {size}")
    for note in dict.fromkeys(found.notes):
        say(f"note: {note}")


def _print_interface(spec: ModelSpec) -> None:
    rows = table("", "name", "type", "shape", "preprocessing")
    for tensor in spec.inputs:
        steps = " ".join(operation.op for operation in spec.preprocessing.get(tensor.name, ()))
        rows.add_row("input", tensor.name, tensor.dtype, _shape(tensor), steps)
    for tensor in spec.outputs:
        rows.add_row("output", tensor.name, tensor.dtype, _shape(tensor), "")
    say(rows)
    if spec.labels:
        more = f" … ({len(spec.labels)})" if len(spec.labels) > 12 else ""
        say("labels: " + ", ".join(spec.labels[:12]) + more)
    if len(spec.signatures) > 1:
        say("signatures: " + ", ".join(spec.signatures))


def _print_layers(layers: Sequence[LayerRow]) -> None:
    if not layers:
        return
    rows = table("layer", "type", "output", "parameters", "MACs")
    for row in layers[:MOST_LAYERS]:
        shape = "?" if row.output_shape is None else _axes(row.output_shape)
        rows.add_row(row.name, row.type, shape, _count(row.parameters), _count(row.macs))
    say(rows)
    if len(layers) > MOST_LAYERS:
        say(f"… and {len(layers) - MOST_LAYERS} more; --json shows all")


def _shape(tensor: TensorSpec) -> str:
    return _axes(tensor.shape)


def _axes(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"


def _count(number: Any) -> str:
    return "?" if number is None else f"{number:,}"
