"""Which quantized operators have scales that LiteRT's XNNPACK kernels refuse: the whole model then does not open.

Limits: XNNPACK, `src/subgraph/` and `src/operators/` (requantization scales of int8 convolutions, fully connected
layers, multiplications and additions). They are met by channels of very different ranges.
"""

from typing import Any

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
# Of (scale of the input x scale of the other) / scale of the output, or of input / output for sums.
_LIMITS = {
    **dict.fromkeys(_CONVOLUTIONS, (2.0**-32, 2.0**8)),
    "MUL": (2.0**-16, 2.0**8),
    "ADD": (2.0**-10, 2.0**8),
    "SUB": (2.0**-10, 2.0**8),
}


def unsuitable(model: Any) -> set[str]:
    """Names of the outputs of operators, of a model as ai-edge-litert's schema has it, that are refused."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator, TensorType

    kinds = {number: name for name, number in vars(BuiltinOperator).items() if name in _LIMITS}
    found = set()
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            kind = kinds.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            tensors = [subgraph.tensors[number] for number in operator.inputs if number >= 0]
            output = subgraph.tensors[operator.outputs[0]] if len(operator.outputs) else None
            if kind is None or output is None or output.type != TensorType.INT8:
                continue
            low, high = _LIMITS[kind]
            ratios = _ratios(kind, tensors, output)
            if ratios is not None and not ((ratios >= low) & (ratios < high)).all():
                found.add(output.name.decode())
    return found


def _ratios(kind: str, inputs: list[Any], output: Any) -> Any:
    """None where a tensor has no scale."""
    import numpy as np

    count = 3 if kind == "TRANSPOSE_CONV" else 2  # its first is a shape
    used = [tensor.quantization for tensor in (*inputs[count - 2 : count], output)]
    scales = [None if q is None or q.scale is None else np.asarray(q.scale, float) for q in used]
    first, second, made = scales
    if first is None or second is None or made is None:
        return None
    if kind in ("ADD", "SUB"):
        return np.concatenate([first / made, second / made])
    return first * second / made
