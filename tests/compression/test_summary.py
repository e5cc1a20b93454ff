"""What a report says of each layer, from the names that formats give to its parts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipcook_deploy.compression.candidates import Trial
from pipcook_deploy.compression.summary import _precision_in
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.converters.to_tfjs import TfjsConverter
from pipcook_deploy.converters.to_tflite import TfliteConverter


def winner(converter, precision, **details):
    build = SimpleNamespace(converter=converter, artifact={"details": details}, path=Path())
    return Trial("1", converter.format, "source", precision, {}, build=build)


TFJS = winner(
    TfjsConverter(
        weights={
            "net/conv0/Conv2D/fused/kernel": "float32",
            "net/conv1/Conv2D/fused/kernel": "uint8",
        },
        levels={"net/conv1/Conv2D/fused/kernel": 16},
    ),
    "uint8, 8 to 256 levels",
)
TFLITE = winner(
    TfliteConverter(precision="int8"),
    "int8",
    excluded=["net/relu0/Relu;net/conv0/Conv2D1", "out:0"],
)
ONNX = winner(OnnxConverter(precision="int8"), "int8", quantization={"float": ["net/conv0/Conv2D"]})


@pytest.mark.parametrize(
    ("trial", "kernel", "said"),
    [
        (TFJS, "conv0/kernel", "float32"),
        (TFJS, "conv1/kernel", "uint8, 16 levels"),
        (TFJS, "conv2/kernel", "uint8, 8 to 256 levels"),
        (TFLITE, "conv0/kernel", "float32"),
        (TFLITE, "conv1/kernel", "int8"),
        (ONNX, "conv0/kernel", "float32"),
        (ONNX, "conv/kernel", "int8"),
    ],
)
def test_a_layer_is_told_apart_by_its_name(trial, kernel, said):
    assert _precision_in(trial, kernel) == said
