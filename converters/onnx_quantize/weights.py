"""The weights of an ONNX file: a list for reports, and pruning without training."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipcook_deploy.converters.onnx_quantize.graph import FLOAT, Edges, set_constant
from pipcook_deploy.converters.onnx_quantize.load import LARGEST, infer_shapes
from pipcook_deploy.converters.onnx_quantize.weights_only import weight_axes
from pipcook_deploy.errors import CompressionError

BINS = 32


def layers(path: str) -> list[dict[str, Any]]:
    """Nodes with float weights: `name`, `kind`, `shape` of the largest weight, `parameters` of all constants.

    `sparsity` is the share of exact zeros in the weights, `histogram` their counts between `edges`.
    """
    return [_described(edges, node, names) for edges, node, names in _weighted(_read(Path(path)))]


def prune_onnx(path: str, sparsity: Mapping[str, float], out: str) -> dict[str, float]:
    """Set the smallest weights of nodes to zero; returns the sparsity that each node has in the file `out`.

    `sparsity` maps the names that `layers` gives to shares between 0 and 1. Weights that several nodes read
    are pruned for the first. Raises `CompressionError` for a node that is not there.
    """
    proto = _read(Path(path))
    rows = {str(node.name): (edges, names) for edges, node, names in _weighted(proto)}
    if unknown := sorted(set(sparsity) - set(rows)):
        raise CompressionError(
            f"{path}: has no node with weights called {', '.join(unknown)}",
            f"name one of: {', '.join(list(rows)[:10])}",
        )
    done: set[str] = set()
    for name, share in sparsity.items():
        edges, names = rows[name]
        for weight in [weight for weight in names if weight not in done]:
            set_constant(edges, weight, pruned(edges.value(weight), share))
            done.add(weight)
    del proto.graph.value_info[:]
    Path(out).write_bytes(proto.SerializeToString(deterministic=True))
    return {name: _zeros(*rows[name]) for name in sparsity}


def pruned(weight: Any, share: float) -> Any:
    """A copy with the `share` of smallest magnitudes at zero; of equal ones the first go."""
    import numpy as np

    flat = weight.ravel().copy()
    order = np.argsort(np.abs(flat), kind="stable")
    flat[order[: round(share * flat.size)]] = 0
    return flat.reshape(weight.shape)


def _read(path: Path) -> Any:
    import onnx

    proto = onnx.load(str(path))
    if proto.ByteSize() > LARGEST:
        raise CompressionError(f"{path}: models above 2 GB are not compressed")
    for tensor in proto.graph.initializer:
        tensor.ClearField("data_location")
    return infer_shapes(proto)


def _weighted(proto: Any) -> Iterator[tuple[Edges, Any, list[str]]]:
    edges = Edges(proto)
    for node in proto.graph.node:
        names = [node.input[n] for n in weight_axes(edges, node)]
        found = [n for n in names if n in edges.constants and edges.types[n] == FLOAT]
        if found:
            yield edges, node, found


def _described(edges: Edges, node: Any, names: list[str]) -> dict[str, Any]:
    import numpy as np

    values = [edges.value(name) for name in names]
    constants = [edges.value(name) for name in dict.fromkeys(node.input) if name in edges.constants]
    together = np.concatenate([value.ravel() for value in values]).astype(np.float64)
    counts, limits = np.histogram(together, BINS)
    return {
        "name": str(node.name),
        "kind": str(node.op_type),
        "shape": list(max(values, key=lambda value: value.size).shape),
        "parameters": int(sum(value.size for value in constants)),
        "sparsity": _zeros(edges, names),
        "histogram": {"edges": limits.tolist(), "counts": counts.tolist()},
    }


def _zeros(edges: Edges, names: list[str]) -> float:
    values = [edges.value(name) for name in names]
    return float(sum((v == 0).sum() for v in values) / sum(v.size for v in values))
