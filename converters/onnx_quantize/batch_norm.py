"""Batch norms folded into the convolutions before them, which keep their names."""

from typing import Any

from pipcook_deploy.converters.onnx_quantize.graph import (
    Edges,
    add_constant,
    attribute,
    remove_nodes,
    set_constant,
)


def fold_batch_norms(proto: Any) -> None:
    """Conv -> BatchNormalization: a Conv with other weights."""
    import numpy as np

    edges = Edges(proto)
    gone = []
    for norm in proto.graph.node:
        conv = edges.made_by(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or len(norm.output) > 1:
            continue
        values = [edges.value(name) for name in norm.input[1:]]
        weight = edges.value(conv.input[1])
        bias = edges.value(conv.input[2]) if len(conv.input) > 2 else np.float32(0)
        private = all(len(edges.readers[name]) == 1 for name in conv.input[1:])
        known = weight is not None and bias is not None and all(v is not None for v in values)
        if not (known and private and edges.only_reader(conv.output[0]) is norm):
            continue
        gamma, beta, mean, variance = values
        factor = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        set_constant(edges, conv.input[1], _scaled(weight, factor))
        moved = ((bias - mean) * factor + beta).astype(np.float32)
        if len(conv.input) > 2:
            set_constant(edges, conv.input[2], moved)
        else:
            conv.input.append(add_constant(proto, f"{conv.name}.bias", moved))
        conv.output[0] = norm.output[0]
        gone.append(norm)
    remove_nodes(proto, gone)


def _scaled(weight: Any, factor: Any) -> Any:
    return (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
