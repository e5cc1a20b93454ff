"""Which operators of a TFLite model suffer from integers: each alone quantized, all others in float."""

import tempfile
from pathlib import Path

from pipcook_deploy.answer_damage import answer_damage
from pipcook_deploy.converters.tflite_calibrate import activation_ranges, named_inputs
from pipcook_deploy.converters.tflite_layers import read_layers
from pipcook_deploy.converters.tflite_quantize import Precision, Quantization, quantized
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.runtimes.litert_runtime import LiteRtGraph, run_file
from pipcook_deploy.tensors import load_tensors

RANGED = 100  # samples that the ranges of activations are found with


def op_damage(
    path: str,
    inputs: str,
    samples: int,
    precision: Precision = "int8",
    per_channel: bool = True,
) -> dict[str, float]:
    """Damage of each operator (see `answer_damage`) by the names that `exclude` takes.

    `path` is a float32 file, `inputs` a folder that `save_tensors` wrote, of which the first `samples` are
    answered. Raises `ConversionError` for a model that cannot be quantized.
    """
    data, given = Path(path).read_bytes(), load_tensors(Path(inputs), samples)
    how = Quantization(precision, per_channel=per_channel)
    ranges = activation_ranges(data, given, None, RANGED) if how.static else {}
    found = read_layers(data)
    places = {layer.place for layer in found}
    truth = _answers(data, given)
    return {
        layer.name: answer_damage(
            truth, _answers(quantized(data, how, places - {layer.place}, ranges)[0], given)
        )
        for layer in found
        if how.static or layer.parameters
    }


def int8_damage(path: str, inputs: str, samples: int, per_channel: bool = True) -> dict[str, float]:
    """`op_damage` of int8."""
    return op_damage(path, inputs, samples, "int8", per_channel)


def int16x8_damage(
    path: str, inputs: str, samples: int, per_channel: bool = True
) -> dict[str, float]:
    """`op_damage` of int16 activations with int8 weights."""
    return op_damage(path, inputs, samples, "int16x8", per_channel)


def dynamic_damage(
    path: str, inputs: str, samples: int, per_channel: bool = True
) -> dict[str, float]:
    """`op_damage` of int8 weights alone."""
    return op_damage(path, inputs, samples, "dynamic", per_channel)


def _answers(data: bytes, inputs: Tensors) -> Tensors:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.tflite"
        file.write_bytes(data)
        names = LiteRtGraph(file, None, {}).inputs
        return run_file(file, named_inputs(inputs, names), None, {})
