"""Reads an ONNX source so that it can be rewritten: constants known, shapes inferred, a recent opset."""

from pathlib import Path
from typing import Any

from pipcook_deploy.converters.onnx_quantize.batch_norm import fold_batch_norms
from pipcook_deploy.converters.onnx_quantize.graph import name_nodes, opset
from pipcook_deploy.errors import ConversionError

OLDEST = 13  # DequantizeLinear knows channels from here on
LARGEST = 2**31 - 1  # bytes of one protobuf


def load_float(path: Path) -> Any:
    """The model with its external data, at opset 13 or newer, simplified, with shapes.

    Raises `ConversionError` for what is quantized already, is too large, or cannot be raised to opset 13.
    """
    import onnx

    proto = onnx.load(str(path))
    if any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
        raise ConversionError(
            f"onnx: {path.name} is quantized already", "use onnx.precision = 'float32' to copy it"
        )
    if proto.ByteSize() > LARGEST:
        raise ConversionError("onnx: models above 2 GB are not quantized")
    if opset(proto) < OLDEST:
        proto = _raised(proto, path)
    proto.ir_version = max(proto.ir_version, 7)
    _constants_are_no_inputs(proto)
    name_nodes(proto)  # before nodes are joined: users know these names
    fold_batch_norms(proto)
    return infer_shapes(_simplified(proto))


def infer_shapes(proto: Any) -> Any:
    """The same with the types and shapes of inner tensors, and names for all nodes."""
    from onnx import shape_inference

    name_nodes(proto)
    try:
        return shape_inference.infer_shapes(proto, data_prop=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(f"onnx: shapes do not fit together: {reason[:300]}") from error


def _raised(proto: Any, path: Path) -> Any:
    from onnx import version_converter

    _constants_are_no_inputs(proto)
    old = opset(proto)
    proto.ir_version = max(proto.ir_version, 4)
    try:
        return version_converter.convert_version(proto, OLDEST)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(
            f"onnx: {path.name} cannot be raised from opset {old} to {OLDEST}, which int8 needs: "
            f"{reason[:300]}",
            "export the model with a newer opset, or use onnx.precision = 'float32'",
        ) from error


def _constants_are_no_inputs(proto: Any) -> None:
    """Old files list initializers among the inputs: values that a caller could change are not constants."""
    names = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in names]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def _simplified(proto: Any) -> Any:
    import onnxslim

    slimmed = onnxslim.slim(proto)
    return proto if slimmed is None else slimmed
