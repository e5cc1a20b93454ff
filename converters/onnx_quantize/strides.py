"""Moves strides to where they save work.

A 1x1 convolution of stride 2 reads a quarter of its input. When nobody reads the rest, what makes it need not
compute the rest: the stride is given to the convolution before, through additions and activations.

It also keeps OpenVINO in int8: that does the same by itself, with a pooling between a tensor's quantization
and dequantization, and takes the convolutions behind it for float ones.
"""

from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.converters.onnx_quantize.graph import Edges, attribute, set_attribute

POINTWISE = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu")


@dataclass
class _Lift:
    """What gets the stride, and the edges (node, input) that are thinned by a pooling."""

    convs: list[Any] = field(default_factory=list)
    thinned: list[tuple[Any, int]] = field(default_factory=list)


def lift_strides(proto: Any) -> bool:
    """Do it for the first tensor where it saves something; False when there is none."""
    edges = Edges(proto)
    for node in proto.graph.node:
        strides = _skipping(edges, node)
        if strides is None:
            continue
        lift = _Lift()
        if _follow(edges, node.input[0], lift) and lift.convs:
            _apply(proto, edges, node.input[0], strides, lift)
            return True
    return False


def _skipping(edges: Edges, node: Any) -> list[int] | None:
    """The stride that all readers of a 1x1 convolution's input have in common."""
    if node.op_type != "Conv" or not _pointwise_conv(edges, node):
        return None
    name = node.input[0]
    strides = attribute(node, "strides", [1, 1])
    if max(strides) == 1 or name in edges.outputs or name in edges.shared:
        return None
    for reader in edges.readers[name]:
        same = reader.op_type == "Conv" and attribute(reader, "strides") == strides
        if not (same and reader.input[0] == name and _pointwise_conv(edges, reader)):
            return None
    return list(strides)


def _pointwise_conv(edges: Edges, node: Any) -> bool:
    kernel = edges.shapes.get(node.input[1], ())[2:]
    return len(kernel) == 2 and set(kernel) == {1} and _plain(node) and not any(_pads(node))


def _plain(node: Any) -> bool:
    return attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")


def _pads(node: Any) -> list[int]:
    return list(attribute(node, "pads", [0, 0, 0, 0]))


def _follow(edges: Edges, name: str, lift: _Lift) -> bool:
    """Collect what makes a tensor of which a part is read; False where the stride cannot go on."""
    maker = edges.made_by(name)
    if maker is None:
        return False
    if maker.op_type == "Conv":
        if not _plain(maker) or len(edges.shapes.get(maker.input[1], ())) != 4:
            return False
        lift.convs.append(maker)
        return True
    if maker.op_type in POINTWISE:
        return edges.only_reader(maker.input[0]) is not None and _follow(
            edges, maker.input[0], lift
        )
    if maker.op_type not in ("Add", "Mul"):
        return False
    shapes = {edges.shapes.get(part) for part in maker.input}
    if len(shapes) != 1 or None in shapes or any(part in edges.constants for part in maker.input):
        return False
    if len(set(maker.input)) != 2 or len(next(iter(shapes)) or ()) != 4:
        return False
    for index, part in enumerate(maker.input):
        before = len(lift.convs), len(lift.thinned)
        if edges.only_reader(part) is None or not _follow(edges, part, lift):
            del lift.convs[before[0] :], lift.thinned[before[1] :]
            lift.thinned.append((maker, index))
    return True


def _apply(proto: Any, edges: Edges, name: str, strides: list[int], lift: _Lift) -> None:
    from onnx import helper

    for reader in edges.readers[name]:
        set_attribute(reader, "strides", [1] * len(strides))
    for conv in lift.convs:
        old = attribute(conv, "strides", [1, 1])
        set_attribute(conv, "strides", [a * b for a, b in zip(old, strides, strict=True)])
    for node, index in lift.thinned:
        source = node.input[index]
        target = f"{node.name}.thin_{index}"
        pool = helper.make_node(
            "MaxPool", [source], [target], name=target, kernel_shape=[1, 1], strides=strides
        )
        position = next(n for n, other in enumerate(proto.graph.node) if other is node)
        node.input[index] = target
        proto.graph.node.insert(position, pool)
    del proto.graph.value_info[:]
