"""Rewrites a float graph so that more of it runs in int8; the answers stay the same up to rounding."""

from typing import Any

from pipcook_deploy.converters.onnx_quantize.batch_norm import fold_batch_norms
from pipcook_deploy.converters.onnx_quantize.graph import (
    Edges,
    attribute,
    drop_unused,
    opset,
    remove_nodes,
    set_attribute,
    set_constant,
)
from pipcook_deploy.converters.onnx_quantize.load import infer_shapes
from pipcook_deploy.converters.onnx_quantize.strides import lift_strides

AXES_AS_INPUT = 18  # of ReduceMean, from this operator set on


def prepare(proto: Any) -> Any:
    """Fold batch norms, paddings and biases into their neighbours, and compute nothing that is skipped."""
    for rewrite in (fold_batch_norms, _fold_pads, _pool_channels_first, _join_biases):
        rewrite(proto)
        drop_unused(proto)
        proto = infer_shapes(proto)
    while lift_strides(proto):
        proto = infer_shapes(proto)
    return proto


def _fold_pads(proto: Any) -> None:
    """Pad with zeros -> Conv or, where no value is below zero, MaxPool: they pad by themselves."""
    edges = Edges(proto)
    gone = []
    for pad in proto.graph.node:
        reader = edges.only_reader(pad.output[0]) if pad.op_type == "Pad" else None
        if reader is None or pad.output[0] != reader.input[0] or not _zero_pad(edges, pad):
            continue
        positive = _never_negative(edges, pad.input[0])
        if reader.op_type != "Conv" and not (reader.op_type == "MaxPool" and positive):
            continue
        if reader.op_type == "MaxPool" and attribute(reader, "ceil_mode", 0):
            continue
        pads = [int(n) for n in edges.value(pad.input[1])]
        rank = len(pads) // 2
        if any(pads[:2] + pads[rank : rank + 2]) or attribute(
            reader, "auto_pad", b"NOTSET"
        ) not in (
            b"NOTSET",
            b"VALID",
        ):
            continue
        own = attribute(reader, "pads", [0] * (2 * (rank - 2)))
        sums = [a + b for a, b in zip(pads[2:rank] + pads[rank + 2 :], own, strict=True)]
        kernel = attribute(reader, "kernel_shape") or list(edges.shapes[reader.input[1]][2:])
        if reader.op_type == "MaxPool" and any(
            n >= size for n, size in zip(sums, [*kernel, *kernel], strict=True)
        ):
            continue
        set_attribute(reader, "auto_pad", "NOTSET")
        set_attribute(reader, "pads", sums)
        reader.input[0] = pad.input[0]
        gone.append(pad)
    remove_nodes(proto, gone)


def _zero_pad(edges: Edges, pad: Any) -> bool:
    if attribute(pad, "mode", b"constant") != b"constant" or edges.value(pad.input[1]) is None:
        return False
    if len(pad.input) > 3 and pad.input[3]:
        return False
    if len(pad.input) < 3 or not pad.input[2]:
        return True
    value = edges.value(pad.input[2])
    return value is not None and not value.any()


def _never_negative(edges: Edges, name: str) -> bool:
    maker = edges.made_by(name)
    if maker is None:
        return False
    if maker.op_type == "Clip" and len(maker.input) > 1 and maker.input[1]:
        low = edges.value(maker.input[1])
        return low is not None and float(low) >= 0
    return maker.op_type in ("Relu", "Sigmoid")


def _pool_channels_first(proto: Any) -> None:
    """Transpose to channels last -> mean over the picture: the mean where the channels are."""
    edges = Edges(proto)
    gone = []
    for mean in proto.graph.node:
        turn = edges.made_by(mean.input[0]) if mean.op_type == "ReduceMean" else None
        if turn is None or turn.op_type != "Transpose" or attribute(mean, "keepdims", 1):
            continue
        if attribute(turn, "perm") != [0, 2, 3, 1] or edges.only_reader(turn.output[0]) is not mean:
            continue
        if opset(proto) >= AXES_AS_INPUT:
            axes = edges.value(mean.input[1]) if len(mean.input) > 1 else None
        else:
            axes = attribute(mean, "axes")
        if axes is None or sorted(int(n) % 4 for n in axes) != [1, 2]:
            continue
        pooled = f"{mean.output[0]}.pooled"
        mean.op_type = "GlobalAveragePool"
        del mean.attribute[:], mean.input[:]
        mean.input.append(turn.input[0])
        turn.op_type = "Flatten"  # in the place of the transpose, behind the mean
        del turn.attribute[:], turn.input[:]
        turn.input.append(pooled)
        turn.output[0], mean.output[0] = mean.output[0], pooled
        gone.append((turn, mean))
    _swap(proto, gone)


def _swap(proto: Any, pairs: list[tuple[Any, Any]]) -> None:
    """Exchange the places of nodes that changed their order."""
    for first, second in pairs:
        copy = type(first).FromString(first.SerializeToString())
        first.CopyFrom(second)
        second.CopyFrom(copy)


def _join_biases(proto: Any) -> None:
    """MatMul of two axes -> Add of a constant row: one Gemm, whose bias is exact in int8."""
    edges = Edges(proto)
    gone = []
    for product in proto.graph.node:
        if product.op_type != "MatMul" or edges.rank(product.input[0]) != 2:
            continue
        weight, add = edges.value(product.input[1]), edges.only_reader(product.output[0])
        if weight is None or weight.ndim != 2 or add is None or add.op_type != "Add":
            continue
        others = [name for name in add.input if name != product.output[0]]
        bias = edges.value(others[0]) if others else None
        if bias is None or bias.size != weight.shape[1] or bias.shape[-1:] != weight.shape[1:]:
            continue
        if bias.ndim != 1:
            if len(edges.readers[others[0]]) > 1:
                continue
            set_constant(edges, others[0], bias.reshape(-1))
        product.op_type = "Gemm"
        product.input.append(others[0])
        product.output[0] = add.output[0]
        gone.append(add)
    remove_nodes(proto, gone)
