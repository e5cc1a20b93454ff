"""Quantizes a float32 TFLite file, operator by operator, with ai-edge-quantizer. No TensorFlow.

That library knows tensors and operators by their names, which TFLite files need not have, or have twice:
tensors are numbered before, and named again (or not at all) after.
"""

import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from pipcook_deploy.converters.tflite_calibrate import Ranges
from pipcook_deploy.converters.tflite_object import packed, unpacked
from pipcook_deploy.converters.tflite_scales import unsuitable
from pipcook_deploy.errors import ConversionError, MissingDependencyError

Precision = Literal["dynamic", "int8", "int16x8"]
Io = Literal["float32", "int8", "uint8"]
_NUMBERED = re.compile(r"t(\d+)_(\d+)(.*)")


@dataclass(frozen=True)
class Quantization:
    """How a file is quantized. `names` keeps those of the tensors inside of it, which no runtime reads."""

    precision: Precision
    io: Io = "float32"
    per_channel: bool = True
    names: bool = False

    @property
    def static(self) -> bool:
        """Whether activations have fixed ranges, which calibration finds."""
        return self.precision != "dynamic"


def quantized(
    data: bytes, how: Quantization, floats: Collection[tuple[int, int]], ranges: Ranges
) -> tuple[bytes, set[tuple[int, int]]]:
    """The quantized file, and the places (subgraph, number) of the operators that were told to stay float.

    Those are `floats` and, for int8, what LiteRT's kernels would refuse (see `tflite_scales`).

    Operators that loops repeat get int8 weights and keep float activations, also where quantization is static.

    `ranges` is read for static quantization only. Raises `ConversionError` for a file that is quantized
    already.
    """
    _require()
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import is_float_model

    model = unpacked(data)
    if not is_float_model(model):
        raise ConversionError("tflite: the model is quantized already", "start from a float32 file")
    names = _number(model)
    numbered = packed(model)
    statistics = _statistics(model, ranges) if how.static else None
    left = set(floats)
    while True:
        scopes = _scopes(model, left)
        made = unpacked(_applied(numbered, how, scopes, statistics))
        more = _places(model, unsuitable(made)) - left
        if not more:
            break
        left |= more
    _name(made, names, how.names)
    return packed(made), left


def _applied(
    data: bytes, how: Quantization, floats: list[str], statistics: dict[str, Any] | None
) -> bytes:
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(data)
    _configure(quantizer, how, floats)
    with warnings.catch_warnings():
        # The library opens an interpreter in a way that warns about itself.
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors", UserWarning)
        made = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(made.quantized_model or b"")


def _require() -> None:
    from importlib.util import find_spec

    if find_spec("ai_edge_quantizer") is None:
        raise MissingDependencyError(
            "quantizing TFLite models needs ai-edge-quantizer, which is not installed",
            "run: pip install 'pipcook-deploy[tensorflow]'",
        )


def _number(model: Any) -> list[list[bytes]]:
    """Give every tensor a name of its own; returns the names that they had."""
    had = []
    for graph, subgraph in enumerate(model.subgraphs):
        had.append([tensor.name or b"" for tensor in subgraph.tensors])
        for number, tensor in enumerate(subgraph.tensors):
            tensor.name = f"t{graph}_{number}".encode()
    return had


def _name(model: Any, names: list[list[bytes]], keep: bool) -> None:
    """The inverse of `_number`; without `keep` for inputs and outputs only, and only where no signature
    tells their names."""
    for graph, subgraph in enumerate(model.subgraphs):
        interface = {*subgraph.inputs, *subgraph.outputs} if not model.signatureDefs else set()
        for number, tensor in enumerate(subgraph.tensors):
            match = _NUMBERED.fullmatch(tensor.name.decode())
            if match is None or not (keep or number in interface):
                tensor.name = b""
                continue
            added = match[3].encode() if number not in interface else b""
            tensor.name = names[graph][int(match[2])] + added


def _places(model: Any, outputs: Collection[str]) -> set[tuple[int, int]]:
    """The operators that make these tensors."""
    return {
        (graph, number)
        for graph, subgraph in enumerate(model.subgraphs)
        for number, operator in enumerate(subgraph.operators)
        if any(subgraph.tensors[i].name.decode() in outputs for i in operator.outputs)
    }


def _scopes(model: Any, floats: Collection[tuple[int, int]]) -> list[str]:
    """What ai-edge-quantizer calls the operators that stay: the name of their first output."""
    found = []
    for graph, subgraph in enumerate(model.subgraphs):
        for number, operator in enumerate(subgraph.operators):
            if (graph, number) in floats and len(operator.outputs):
                found.append(subgraph.tensors[operator.outputs[0]].name.decode())
    return found


def _configure(quantizer: Any, how: Quantization, floats: list[str]) -> None:
    """Later rules win where they can be followed; a rule takes the place of one with the same expression."""
    from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName

    every = TFLOperationName.ALL_SUPPORTED
    granularity = QuantGranularity.CHANNELWISE if how.per_channel else QuantGranularity.TENSORWISE
    if not how.static:
        quantizer.add_dynamic_config(".*", every, 8, granularity)
    else:
        bits = 16 if how.precision == "int16x8" else 8
        quantizer.add_static_config(".*", every, bits, 8, granularity)
        # What a loop repeats: the ranges of its activations cannot be looked at.
        quantizer.update_quantization_recipe("^t[1-9]", every, algorithm_key="no_quantize")
        quantizer.add_dynamic_config(r"^t[1-9]\d*_", every, 8, granularity)
    if floats:
        scopes = "|".join(floats)
        quantizer.update_quantization_recipe(f"^({scopes});", every, algorithm_key="no_quantize")
    if how.static:
        for side in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
            _interface(quantizer, side, how.io)


def _interface(quantizer: Any, side: Any, io: Io) -> None:
    from ai_edge_quantizer.qtyping import (
        ComputePrecision,
        OpQuantizationConfig,
        TensorDataType,
        TensorQuantizationConfig,
    )

    if io == "float32":
        quantizer.update_quantization_recipe("^t0_", side, algorithm_key="no_quantize")
        return
    kind = TensorDataType.INT if io == "int8" else TensorDataType.UINT
    values = TensorQuantizationConfig(num_bits=8, symmetric=False, dtype=kind)
    weights = TensorQuantizationConfig(num_bits=8, symmetric=True)
    config = OpQuantizationConfig(values, weights, ComputePrecision.INTEGER)
    quantizer.update_quantization_recipe("^t0_", side, config)


def _statistics(model: Any, ranges: Ranges) -> dict[str, dict[str, Any]]:
    import numpy as np

    tensors = model.subgraphs[0].tensors
    # What a constant ranges over is told by its values, for each channel of its own. Interpreters add
    # scratch tensors at the end.
    live = [n for n in ranges if n < len(tensors) and model.buffers[tensors[n].buffer].data is None]

    def bound(number: int, value: float) -> Any:
        shape = tensors[number].shape
        return np.full((1,) * (0 if shape is None else len(shape)), value, np.float32)

    return {
        f"t0_{number}": {
            side: bound(number, value)
            for side, value in zip(("min", "max"), ranges[number], strict=True)
        }
        for number in live
    }
