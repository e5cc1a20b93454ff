"""Models for the engines: a classifier of pictures whose layers are real ones, and golden samples of any model."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.compare import Tolerance
from pipcook_deploy.server.served import Golden, ServedModel
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.tensors import save_tensors
from tests.server import tiny_models
from tests.server.tiny_models import tensor

SMALL_TFLITE = Path(__file__).parents[1] / "sources" / "data" / "small.tflite"
SIDE = 24
IMAGE = [
    {"op": "decode"},
    {"op": "resize", "height": SIDE, "width": SIDE},
    {"op": "scale", "factor": 1 / 127.5, "offset": -1.0},
]


def pictures(folder, name="pictures", batch=None, channels=32):
    """Ten scores of a picture [24, 24, 3]: two convolutions, a mean, a matrix product and a softmax."""
    random = np.random.default_rng(7)

    def weights(*shape):
        return random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    return tiny_models.save(
        folder,
        name,
        [
            ("Transpose", ("in:image",), ("planes",), {"perm": [0, 3, 1, 2]}),
            ("Conv", ("planes", "first"), ("a",), same),
            ("Relu", ("a",), ("b",), {}),
            ("Conv", ("b", "second"), ("c",), same | {"strides": [2, 2]}),
            ("Relu", ("c",), ("d",), {}),
            ("GlobalAveragePool", ("d",), ("e",), {}),
            ("Flatten", ("e",), ("f",), {}),
            ("MatMul", ("f", "last"), ("g",), {}),
            ("Softmax", ("g",), ("out:scores",), {"axis": 1}),
        ],
        [tensor("image", "float32", batch, SIDE, SIDE, 3)],
        [tensor("scores", "float32", batch, 10)],
        [
            ("first", weights(channels, 3, 3, 3)),
            ("second", weights(2 * channels, channels, 3, 3)),
            ("last", weights(10, 2 * channels).T.copy()),
        ],
        task="image-classification",
        labels=[f"class {i}" for i in range(10)],
        preprocessing={"image": IMAGE},
    )


def images(count, seed=0):
    return {"image": np.random.default_rng(seed).random((count, SIDE, SIDE, 3), np.float32)}


def served(folder, golden=None):
    """What `tiny_models.save` wrote, as a server takes it."""
    import json

    spec = ModelSpec.model_validate_json((folder / "spec.json").read_bytes())
    artifact = Artifact.from_json(json.loads((folder / "artifact.json").read_bytes()))
    return ServedModel(spec, artifact, golden)


def small_tflite():
    """[N, 8, 8, 3] -> [N, 3], a TFLite file, as an artifact."""
    shapes = (None, 8, 8, 3), (None, 3)
    inputs = (Binding("image", "keras_tensor", "float32", shapes[0]),)
    outputs = (Binding("scores", "output_0", "float32", shapes[1]),)
    return Artifact("tflite", "tflite", SMALL_TFLITE.parent, SMALL_TFLITE.name, inputs, outputs)


def small_pictures(count):
    return {"image": np.random.default_rng(1).random((count, 8, 8, 3), np.float32)}


def golden(folder, inputs, outputs, tolerance=None):
    """Written to `folder` as a bundle has them."""
    save_tensors(folder / "inputs", inputs)
    save_tensors(folder / "outputs", outputs)
    return Golden(folder / "inputs", folder / "outputs", tolerance or Tolerance())


def with_golden(model, folder, answers, inputs, **tolerance):
    """`model` with golden samples whose recorded answers are `answers`."""
    return replace(model, golden=golden(folder, inputs, answers, Tolerance(**tolerance)))
