"""Parameters and multiply-accumulates of ONNX and TFLite operators, from the shapes that the file tells."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from pipcook_deploy.formats.onnx_file import OnnxFile, OnnxNode
from pipcook_deploy.formats.tflite_file import Subgraph, TfliteFile, TfliteOperator

Shape = tuple[int | None, ...]

# Which input of an ONNX operator is its weight.
_ONNX_CONV = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_ONNX_MATMUL = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
_ONNX_UNKNOWN = {
    "ConvTranspose", "DeformConv", "Einsum", "LSTM", "GRU", "RNN", "Attention", "If", "Loop", "Scan",
}  # fmt: skip
_PASSES_WEIGHTS = {"DequantizeLinear", "Identity", "Cast"}
_TFLITE_UNKNOWN = {
    "CONV_3D", "CONV_3D_TRANSPOSE", "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN",
    "IF", "WHILE", "CALL", "STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL", "STABLEHLO_WHILE",
    "STABLEHLO_COMPOSITE", "STABLEHLO_CUSTOM_CALL",
}  # fmt: skip


@dataclass(frozen=True)
class GraphRow:
    """One operator; None is unknown."""

    name: str
    op: str
    shape: Shape | None
    parameters: int | None
    macs: int | None


def onnx_rows(onnx: OnnxFile) -> list[GraphRow]:
    """Operators of the main graph. A weight is counted at the first operator that reads it."""
    weights: dict[str, tuple[int, ...]] = dict(onnx.initializers)
    free = set(onnx.initializers)
    rows = []
    for node in onnx.nodes:
        own = [name for name in dict.fromkeys(node.inputs) if name in free]
        free.difference_update(own)
        if node.op in _PASSES_WEIGHTS and node.inputs and node.inputs[0] in weights:
            weights[node.outputs[0]] = weights[node.inputs[0]]
        output = node.outputs[0] if node.outputs else ""
        rows.append(
            GraphRow(
                name=node.name or output,
                op=f"{node.domain}:{node.op}" if node.domain else node.op,
                shape=onnx.shapes.get(output),
                parameters=sum(prod(onnx.initializers[name]) for name in own),
                macs=_onnx_macs(node, weights, onnx.shapes | weights),
            )
        )
    return rows


def _onnx_macs(
    node: OnnxNode, weights: dict[str, tuple[int, ...]], shapes: dict[str, Shape]
) -> int | None:
    output = shapes.get(node.outputs[0]) if node.outputs else None
    if node.domain or node.op in _ONNX_UNKNOWN:
        return None
    if node.op in _ONNX_CONV:
        place = _ONNX_CONV[node.op]
        weight = weights.get(node.inputs[place]) if place < len(node.inputs) else None
        return None if weight is None or output is None else _times(*weight, *output[2:])
    if node.op == "Gemm":
        weight = weights.get(node.inputs[1]) if len(node.inputs) > 1 else None
        return None if weight is None else prod(weight)
    if node.op in _ONNX_MATMUL:
        left, right = _ONNX_MATMUL[node.op]
        if right >= len(node.inputs):
            return None
        return _matmul(shapes.get(node.inputs[left]), shapes.get(node.inputs[right]), output)
    return 0


def _matmul(left: Shape | None, right: Shape | None, output: Shape | None) -> int | None:
    """Elements of one sample's output times the length of the sum; axis 0 of rank 2 and more is the batch."""
    inner = left[-1] if left else right[-2] if right and len(right) > 1 else None
    if output is None and left is not None and right is not None and len(right) == 2:
        output = (*left[:-1], right[-1])
    return None if output is None else _times(inner, *output[1:])


def tflite_rows(tflite: TfliteFile) -> list[GraphRow]:
    """Operators of all subgraphs. A weight is counted at the first operator that reads it."""
    rows = []
    for graph in tflite.subgraphs:
        free = {i for i, tensor in enumerate(graph.tensors) if tensor.size}
        for operator in graph.operators:
            own = free.intersection(operator.inputs)
            free -= own
            output = graph.tensors[operator.outputs[0]] if operator.outputs else None
            macs = _tflite_macs(operator, graph)
            custom = operator.name in tflite.custom_ops
            rows.append(
                GraphRow(
                    name=output.name if output else "",
                    op=operator.name,
                    shape=output.shape if output else None,
                    parameters=_known_sum([_times(*graph.tensors[i].shape) for i in own]),
                    macs=None if custom else macs,
                )
            )
    return rows


def _tflite_macs(operator: TfliteOperator, graph: Subgraph) -> int | None:
    if operator.name in _TFLITE_UNKNOWN:
        return None
    rule = _TFLITE.get(operator.name)
    if rule is None:
        return 0
    shapes = [graph.tensors[i].shape if i >= 0 else () for i in operator.inputs]
    outputs = [graph.tensors[i].shape for i in operator.outputs]
    if len(shapes) < 2 or not outputs:
        return None
    return rule(shapes, outputs[0])


def _convolution(shapes: list[Shape], output: Shape) -> int | None:
    return _times(*shapes[1], *output[1:3])


def _transposed(shapes: list[Shape], output: Shape) -> int | None:
    return _times(*shapes[1], *shapes[2][1:3]) if len(shapes) > 2 else None


def _fully_connected(shapes: list[Shape], output: Shape) -> int | None:
    return _times(*shapes[1], *output[1:-1])


def _batch_matmul(shapes: list[Shape], output: Shape) -> int | None:
    # Either side may be transposed: the length that both sides share and the output lacks.
    total, rows = _times(*shapes[0][-2:]), output[-2] if len(output) > 1 else None
    if total is None or not rows:
        return None
    return _times(total // rows, *output[1:])


_TFLITE: dict[str, Callable[[list[Shape], Shape], int | None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
}


def _times(*sizes: int | None) -> int | None:
    known = [size for size in sizes if size is not None]
    return prod(known) if len(known) == len(sizes) else None


def _known_sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
