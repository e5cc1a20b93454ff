"""What is inside a model: layers, parameters, multiply-accumulates, operators. Without TensorFlow.

What a format does not tell is None ("unknown"), never 0. MACs are those of one sample; element-wise work,
pooling and normalization count as none.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipcook_deploy.inspect_graph import GraphRow, onnx_rows, tflite_rows
from pipcook_deploy.model import Model
from pipcook_deploy.spec import Details, ModelSpec


@dataclass(frozen=True)
class LayerRow:
    """A layer or operator. `name` is its path within nested models ("backbone/conv1")."""

    name: str
    type: str
    output_shape: tuple[int | None, ...] | None
    parameters: int | None
    macs: int | None

    def to_json(self) -> dict[str, Any]:
        """As plain data; null is unknown."""
        shape = None if self.output_shape is None else list(self.output_shape)
        return {
            "name": self.name,
            "type": self.type,
            "output_shape": shape,
            "parameters": self.parameters,
            "macs": self.macs,
        }


@dataclass(frozen=True)
class Inspection:
    """A model's spec, its layers and their totals. `notes` say what is unknown, and why."""

    path: Path
    format: str
    spec: ModelSpec
    source_hash: str
    layers: tuple[LayerRow, ...]
    parameters: int | None
    macs: int | None
    weight_bytes: int | None
    ops: dict[str, int]
    details: Details = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data; null is unknown."""
        return {
            "path": str(self.path),
            "format": self.format,
            "spec": self.spec.model_dump(mode="json"),
            "source_hash": self.source_hash,
            "layers": [row.to_json() for row in self.layers],
            "totals": {
                "parameters": self.parameters,
                "macs": self.macs,
                "weight_bytes": self.weight_bytes,
            },
            "ops": self.ops,
            "details": self.details,
            "notes": list(self.notes),
        }


def inspect(model: Model) -> Inspection:
    """Look into a loaded model. Raises `SourceError` if its files are gone or changed meanwhile."""
    rows, notes = _rows(model)
    ops = Counter(row.type for row in rows)
    listed = model.details.get("ops")
    if isinstance(listed, dict):
        ops = Counter({name: n for name, n in listed.items() if isinstance(n, int)})
    macs = None if notes else _sum([row.macs for row in rows])
    if rows and macs is None and not notes:
        unknown = sorted({row.type for row in rows if row.macs is None})
        notes = [f"MACs are unknown: they cannot be told for {', '.join(unknown[:8])}"]
    return Inspection(
        path=model.path,
        format=model.format,
        spec=model.spec,
        source_hash=model.source_hash,
        layers=tuple(rows),
        parameters=_integer(model.details.get("parameters"), rows),
        macs=macs,
        weight_bytes=_integer(model.details.get("weight_bytes"), []),
        ops=dict(sorted(ops.items())),
        details={key: value for key, value in model.details.items() if key != "ops"},
        notes=(*model.spec.notes, *notes),
    )


def _rows(model: Model) -> tuple[list[LayerRow], list[str]]:
    match model.format:
        case "keras" | "keras_h5" | "tfjs_layers":
            return _layer_rows(model), []
        case "onnx":
            from pipcook_deploy.sources.graph_sources import open_onnx

            return _graph_rows(onnx_rows(open_onnx(model.path))), []
        case "tflite":
            from pipcook_deploy.sources.graph_sources import open_tflite

            return _graph_rows(tflite_rows(open_tflite(model.path))), []
        case "tfjs_graph":
            return _node_rows(model), ["MACs are unknown: the graph does not tell shapes"]
        case _:
            return [], ["layers and MACs are unknown: the graph does not tell shapes"]


def _layer_rows(model: Model) -> list[LayerRow]:
    from pipcook_deploy.sources.keras_shapes import propagate

    rows, _ = propagate(_graph(model))
    return [
        LayerRow(
            row.path,
            row.class_name,
            row.effect.outputs[0],
            row.effect.parameters,
            row.effect.macs,
        )
        for row in rows
    ]


def _graph(model: Model) -> Any:
    from pipcook_deploy.formats.tfjs_model import read_model
    from pipcook_deploy.sources.keras_source import graph_of
    from pipcook_deploy.sources.keras_topology import parse

    if model.format == "tfjs_layers":
        return parse(read_model(model.path).layers_config, str(model.path))
    return graph_of(model.path)


def _node_rows(model: Model) -> list[LayerRow]:
    from pipcook_deploy.formats.tfjs_model import read_model

    nodes = read_model(model.path).topology["node"]
    return [
        LayerRow(str(node.get("name")), str(node.get("op")), None, None, None)
        for node in nodes
        if node.get("op") not in ("Const", "Placeholder")
    ]


def _graph_rows(rows: list[GraphRow]) -> list[LayerRow]:
    return [LayerRow(r.name, r.op, r.shape, r.parameters, r.macs) for r in rows]


def _integer(value: Any, rows: list[LayerRow]) -> int | None:
    """What the format's weights add up to; else what the rows do."""
    if isinstance(value, int):
        return value
    return _sum([row.parameters for row in rows]) if rows else None


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
