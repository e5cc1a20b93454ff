"""Static int8: QuantizeLinear and DequantizeLinear around what computes in int8.

Engines recognize the pairs and run their own int8 kernels. Activations are u8 with a scale a tensor, weights s8
with a scale a channel, biases s32 in units of both scales: the form that ONNX Runtime and OpenVINO are fastest
with on x86.
"""

from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.converters.onnx_quantize.calibrate import Ranges
from pipcook_deploy.converters.onnx_quantize.graph import (
    Edges,
    attribute,
    drop_unused,
    replace_nodes,
)
from pipcook_deploy.converters.onnx_quantize.params import (
    Quantization,
    activation,
    along,
    to_int8,
    weight_scales,
)
from pipcook_deploy.converters.onnx_quantize.plan import Plan
from pipcook_deploy.converters.onnx_quantize.store import Store


@dataclass(frozen=True)
class Int8Options:
    """`correct_bias` takes out what rounding the weights moves a channel's mean by."""

    per_channel: bool = True
    symmetric: bool = False
    correct_bias: bool = True


def quantize(proto: Any, plan: Plan, ranges: Ranges, options: Int8Options) -> Any:
    """The model with the planned nodes in int8; `proto` stays as it is."""
    copy = type(proto).FromString(proto.SerializeToString())
    _Writer(copy, plan, ranges, options).write()
    drop_unused(copy)
    return copy


@dataclass
class _Writer:
    proto: Any
    plan: Plan
    ranges: Ranges
    options: Int8Options
    nodes: list[Any] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)  # u8 tensors: the float view of each

    def __post_init__(self) -> None:
        self.edges = Edges(self.proto)
        self.store = Store(self.proto)
        self.heavy = {node.name for node in self.plan.heavy}
        self.light = {node.name for node in self.plan.light}
        self.written = {node.name: name for name, node in self.plan.folded.items()}

    def write(self) -> None:
        for value in self.proto.graph.input:
            self._after(value.name)
        for node in self.proto.graph.node:
            if node.name not in self.plan.folded:
                self._node(node)
        replace_nodes(self.proto, self.nodes)

    def _node(self, node: Any) -> None:
        copy = type(node).FromString(node.SerializeToString())
        if node.name in self.heavy:
            self._weights(node, copy)
            copy.input[0] = self.done[node.input[0]]
        elif node.name in self.light:
            for index, name in enumerate(node.input):
                copy.input[index] = self.done.get(name, name)
        outputs = list(node.output)
        if node.name in self.written:
            folded = self.written[node.name]
            outputs = list(next(n for n in self.proto.graph.node if n.name == folded).output)
        for index, name in enumerate(outputs):
            if name in self.plan.made:
                copy.output[index] = self.store.name()
        self.nodes.append(copy)
        for name, raw in zip(outputs, copy.output, strict=True):
            self._after(name, raw)

    def _after(self, name: str, raw: str | None = None) -> None:
        """Quantize a tensor that is held in u8; what int8 nodes wrote keeps its name behind the pair."""
        if name not in self.plan.owner:
            return
        quantization = self.quantization(name)
        scale, zero = self._scalars(quantization)
        stored = self.store.name()
        seen = name if name in self.plan.made else self.store.name()
        self._append("QuantizeLinear", [raw or name, scale, zero], stored)
        self._append("DequantizeLinear", [stored, scale, zero], seen)
        self.done[name] = seen

    def quantization(self, name: str) -> Quantization:
        low, high = self.ranges.limits[self.plan.owner[name]]
        return activation(low, high, self.options.symmetric)

    def _weights(self, node: Any, copy: Any) -> None:
        import numpy as np

        weight = self.edges.value(node.input[1])
        axis = channel_axis(node) if self.options.per_channel else None
        bias = self._bias(node)
        unit = self.quantization(node.input[0]).scale
        scales = weight_scales(weight, axis, bias, unit)
        integers = to_int8(weight, scales, axis)
        if self.options.correct_bias:
            bias = self._corrected(node, weight, integers * along(scales, weight.ndim, axis), bias)
        copy.input[1] = self._dequantized(integers, scales, axis)
        if bias is not None:
            units = np.float32(unit) * scales
            values = np.clip(np.rint(bias / units), -(2**31), 2**31 - 1).astype(np.int32)
            units = np.broadcast_to(units, values.shape) if axis is not None else units
            del copy.input[2:]
            copy.input.append(self._dequantized(values, units, 0 if axis is not None else None))

    def _bias(self, node: Any) -> Any:
        if len(node.input) > 2 and node.input[2]:
            return self.edges.value(node.input[2])
        return None

    def _corrected(self, node: Any, weight: Any, rounded: Any, bias: Any) -> Any:
        """The bias less the mean of what rounding added; paddings count as the picture's mean."""
        import numpy as np

        means = self.ranges.means.get(node.input[0])
        if node.op_type != "Conv" or bias is None or means is None:
            return bias
        error = (rounded.astype(np.float64) - weight).sum(axis=tuple(range(2, weight.ndim)))
        groups = attribute(node, "group", 1)
        rows, inner = error.reshape(groups, -1, error.shape[1]), means.reshape(groups, -1)
        return (bias - np.einsum("goi,gi->go", rows, inner).ravel()).astype(np.float32)

    def _dequantized(self, integers: Any, scales: Any, axis: int | None) -> str:
        node = self.store.dequantize(self.store.constant(integers), integers.dtype, scales, axis)
        self.nodes.append(node)
        return str(node.output[0])

    def _scalars(self, quantization: Quantization) -> tuple[str, str]:
        import numpy as np

        scale = self.store.constant(np.float32(quantization.scale))
        return scale, self.store.constant(np.uint8(quantization.zero))

    def _append(self, op: str, inputs: list[str], output: str) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output]))


def channel_axis(node: Any) -> int:
    """The axis of a weight along which its output channels lie."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1
