"""Which operations TF.js runs, and with which attributes.

`data/tfjs_ops.json` is made by `data/list_ops.mjs` from the npm package.
"""

import json
from collections import defaultdict
from functools import cache
from importlib.resources import files

from pipcook_deploy.converters.tfjs.graph import Graph, Node
from pipcook_deploy.errors import UnsupportedConversionError

# Mapped by TF.js, but they need tables that a model.json would have to initialize.
_UNWRITTEN = ("hash_table", "control")


@cache
def known_ops() -> tuple[str, dict[str, str]]:
    """The version of TF.js, and the category of each operation it runs."""
    text = files("pipcook_deploy.converters.tfjs").joinpath("data/tfjs_ops.json").read_text("utf-8")
    data = json.loads(text)
    return data["tfjs"], data["ops"]


def check_ops(graph: Graph) -> None:
    """Refuse a graph that TF.js could not run, naming each operation and the layers it comes from.

    Raises `UnsupportedConversionError`.
    """
    version, ops = known_ops()
    places: dict[str, list[str]] = defaultdict(list)
    for node in graph:
        reason = _lacking(node, ops)
        if reason is not None:
            layer = node.name.rpartition("/")[0] or node.name
            if layer not in places[reason]:
                places[reason].append(layer)
    if places:
        rows = [f"{reason}: in {_listed(names)}" for reason, names in sorted(places.items())]
        raise UnsupportedConversionError(
            f"TF.js {version} cannot run this model as a graph: " + "; ".join(rows),
            "replace these layers, or convert to another format: --to onnx",
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _lacking(node: Node, ops: dict[str, str]) -> str | None:
    """Why TF.js cannot run a node, or None if it can."""
    category = ops.get(node.op)
    if category is None:
        return f"there is no {node.op}"
    if category in _UNWRITTEN:
        return f"{node.op} is not written by this converter"
    if node.op == "MatrixBandPart":
        return "MatrixBandPart, which TF.js computes wrongly, of a size that depends on the input"
    if node.text("data_format", "NHWC").startswith("NC"):
        return f"{node.op} with channels first"
    if node.op in ("MaxPool", "AvgPool") and node.text("padding") == "EXPLICIT":
        return f"{node.op} with explicit padding"
    if node.op == "Conv2DBackpropInput" and any(n > 1 for n in node.integers("dilations")):
        return "transposed convolution with dilation"
    if node.op == "FusedBatchNormV3" and node.flag("is_training", True):
        return "FusedBatchNormV3 in training mode"
    return None
