"""From a float model to a smaller one: the one entry to this package."""

from typing import Any, Literal

from pydantic import Field

from pipcook_deploy.converters.onnx_names import all_nodes, sort_nodes
from pipcook_deploy.converters.onnx_quantize.calibrate import Calibration, Method, find_ranges
from pipcook_deploy.converters.onnx_quantize.graph import Edges, drop_unused
from pipcook_deploy.converters.onnx_quantize.load import infer_shapes
from pipcook_deploy.converters.onnx_quantize.plan import HEAVY, excluded, make_plan
from pipcook_deploy.converters.onnx_quantize.prepare import prepare
from pipcook_deploy.converters.onnx_quantize.qdq import Int8Options, quantize
from pipcook_deploy.converters.onnx_quantize.weights_only import store_weights
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.options import Options
from pipcook_deploy.spec import Details
from pipcook_deploy.text import did_you_mean

Precision = Literal["float32", "int8", "int8_weights", "float16"]
PAIRS = ("QuantizeLinear", "DequantizeLinear")


class LowerOptions(Options):
    """How an ONNX model is made smaller; the fields are options of the converter."""

    precision: Precision = Field(
        default="float32",
        description="int8: weights and activations, fastest in ONNX Runtime and OpenVINO; int8_weights: "
        "small, computes in float; float16: half the size.",
    )
    per_channel: bool = Field(
        default=True, description="int8: a scale for each output channel of a weight."
    )
    symmetric: bool = Field(
        default=False, description="int8: activations with the zero point in the middle."
    )
    correct_bias: bool = Field(
        default=True,
        description="int8: take the mean of what rounding the weights adds out of the biases.",
    )
    calibration_method: Method = Field(
        default="minmax",
        description="int8: range of an activation: all values, the least KL divergence, or a percentile.",
    )
    percentile: float = Field(
        default=99.99,
        gt=50,
        le=100,
        description="Share of values, in percent, that calibration_method = 'percentile' keeps.",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Nodes left in float, by name; * and ? are wildcards."
    )


def lower(proto: Any, options: LowerOptions, samples: dict[str, Any] | None) -> tuple[Any, Details]:
    """The model in `options.precision`, with what was done to it.

    Inputs and outputs keep their names, types and shapes. Raises `ConversionError` when nothing of it can be in
    that precision.
    """
    proto = infer_shapes(proto)
    _check_names(proto, options.exclude)
    if options.precision == "int8":
        lowered, details = _int8(proto, options, samples or {})
    elif options.precision == "int8_weights":
        lowered, names = store_weights(proto, options.exclude, per_channel=options.per_channel)
        if not names:
            raise ConversionError(
                "onnx: the model has no weights that are large enough for int8",
                "use onnx.precision = 'float32'",
            )
        details = {"weights_only": list(names)}
    else:
        lowered, details = _float16(proto, options), {}
    _tidy(lowered)
    return lowered, {"precision": options.precision, "float": list(_in_float(lowered)), **details}


def _check_names(proto: Any, exclude: tuple[str, ...]) -> None:
    names = [str(node.name) for node in proto.graph.node]
    for pattern in exclude:
        if not any(excluded(name, (pattern,)) for name in names):
            raise ConversionError(
                f"onnx.exclude: no node is called {pattern!r}{did_you_mean(pattern, names)}"
            )


def _int8(proto: Any, options: LowerOptions, samples: dict[str, Any]) -> tuple[Any, Details]:
    proto = prepare(proto)
    plan = make_plan(Edges(proto), options.exclude, symmetric=options.symmetric)
    calibration = Calibration(options.calibration_method, options.percentile)
    ranges = find_ranges(proto, set(plan.owner.values()), samples, calibration)
    how = Int8Options(options.per_channel, options.symmetric, options.correct_bias)
    lowered = quantize(proto, plan, ranges, how)
    lowered, names = store_weights(
        infer_shapes(lowered), options.exclude, per_channel=options.per_channel
    )
    if not plan.heavy and not names:
        raise ConversionError(
            "onnx: nothing in the model can be in int8: it has no convolution, matrix product, embedding or "
            "recurrence with constant weights that is not excluded",
            "use onnx.precision = 'float32'",
        )
    return lowered, {
        "method": options.calibration_method,
        "calibration_samples": len(next(iter(samples.values()))) if samples else 0,
        "int8": [str(node.name) for node in plan.heavy],
        "weights_only": list(names),
    }


def _float16(proto: Any, options: LowerOptions) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    blocked = [n.name for n in proto.graph.node if excluded(n.name, options.exclude)]
    lowered = convert_float_to_float16(
        proto, keep_io_types=True, disable_shape_infer=True, node_block_list=blocked
    )
    sort_nodes(lowered.graph)  # the casts stand at the end
    return lowered


def _in_float(proto: Any) -> list[str]:
    """Nodes with a large constant weight that is float32 still."""
    edges = Edges(proto)
    kinds = (*HEAVY, "ConvTranspose", "Gather", "LSTM", "GRU", "RNN")
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in kinds
        and any(name in edges.constants and edges.types[name] == 1 for name in node.input[:2])
    ]


def _tidy(proto: Any) -> None:
    """What no engine reads is taken out."""
    drop_unused(proto)
    proto.doc_string = proto.graph.doc_string = ""
    proto.producer_name, proto.producer_version = "pipcook-deploy", ""
    proto.graph.name = "model"
    del proto.metadata_props[:], proto.graph.value_info[:], proto.graph.metadata_props[:]
    proto.graph.initializer.sort(key=lambda tensor: str(tensor.name))
    for tensor in proto.graph.initializer:
        tensor.ClearField("doc_string")
    for node in all_nodes(proto.graph):
        node.ClearField("doc_string")
        del node.metadata_props[:]
        if node.op_type in PAIRS:
            node.ClearField("name")
        node.attribute.sort(key=lambda attribute: str(attribute.name))
