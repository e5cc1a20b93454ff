"""Stores the constants of a float32 TFLite file as half floats. No TensorFlow.

Each constant that is worth it becomes FLOAT16 and is widened by a DEQUANTIZE operator at the start of its
subgraph, which LiteRT computes once. Schema: tflite/schema/schema.fbs.
"""

from typing import Any

from pipcook_deploy.converters.tflite_object import packed, unpacked
from pipcook_deploy.errors import ConversionError

SMALLEST = 16  # elements: an operator more takes as many bytes as it saves below that
_OPERATOR_VERSION = 3  # of DEQUANTIZE: the first that takes half floats


def with_half_floats(data: bytes, names: bool) -> bytes:
    """The same model with half the bytes; `names` keeps those of inner tensors.

    Raises `ConversionError` for values that half floats do not reach.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(data)
    halved = _halve_buffers(model, schema.TensorType.FLOAT32)
    code = len(model.operatorCodes)
    for subgraph in model.subgraphs:
        _widen(subgraph, halved, code, schema)
        if not names and model.signatureDefs:
            for tensor in subgraph.tensors:
                tensor.name = b""
    number = schema.BuiltinOperator.DEQUANTIZE
    added = schema.OperatorCodeT()
    added.deprecatedBuiltinCode = added.builtinCode = number
    added.version = _OPERATOR_VERSION
    model.operatorCodes.append(added)
    return packed(model)


def _halve_buffers(model: Any, float32: int) -> set[int]:
    """Rewrite the buffers of which every tensor is float32; returns their numbers."""
    import numpy as np

    tensors = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors]
    others = {tensor.buffer for tensor in tensors if tensor.type != float32}
    told = {metadata.buffer for metadata in model.metadata or ()}
    halved = set()
    for number in sorted({tensor.buffer for tensor in tensors} - others - told):
        buffer = model.buffers[number]
        if buffer.data is None or len(buffer.data) < 4 * SMALLEST:
            continue
        values = np.frombuffer(bytes(buffer.data), "<f4")
        if np.abs(values[np.isfinite(values)]).max(initial=0) >= 65520:  # rounds to infinity
            raise ConversionError(
                "tflite: a weight holds values beyond float16", "keep precision = 'float32'"
            )
        buffer.data = np.frombuffer(values.astype("<f2").tobytes(), np.uint8)
        halved.add(number)
    return halved


def _widen(subgraph: Any, halved: set[int], code: int, schema: Any) -> None:
    operators, renumbered = [], {}
    for number, tensor in enumerate(list(subgraph.tensors)):
        if tensor.buffer not in halved:
            continue
        wide = schema.TensorT()
        wide.shape, wide.type, wide.buffer = tensor.shape, tensor.type, 0
        wide.name = (tensor.name or b"") + b"_widened"
        tensor.type = schema.TensorType.FLOAT16
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = code, [number]
        operator.outputs = [len(subgraph.tensors)]
        renumbered[number] = len(subgraph.tensors)
        subgraph.tensors.append(wide)
        operators.append(operator)
    for operator in subgraph.operators:
        operator.inputs = [renumbered.get(number, number) for number in operator.inputs]
    subgraph.outputs = [renumbered.get(number, number) for number in subgraph.outputs]
    subgraph.operators = operators + list(subgraph.operators)
