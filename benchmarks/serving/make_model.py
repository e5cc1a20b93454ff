"""Makes one bundle: python make_model.py NAME DIR. Random weights from a fixed seed; run by `models.py`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0
SEEDS = {"mlp": 0, "mlp_other": 1}  # the same model with other weights
SIDE = 224
IMAGE: list[dict[str, Any]] = [
    {"op": "decode"},
    {"op": "resize", "height": SIDE, "width": SIDE},
    {"op": "scale", "factor": 1 / 127.5, "offset": -1.0},
]


def mlp() -> Any:
    """784-256-10."""
    import keras

    return keras.Sequential(
        [
            keras.Input((784,), name="image"),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )


def picture_model(name: str) -> Any:
    """A model of keras.applications whose batch norms have the statistics of random pictures.

    With those of fresh weights activations fade to zero, and a wrong answer could not be told from a right one.
    """
    import keras

    model = getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(np.random.default_rng(SEED).random((4, SIDE, SIDE, 3), "float32"), training=True)
    for norm in norms:
        norm.momentum = 0.999
    return model


def main(name: str, out: Path) -> None:
    """Build, convert to ONNX, bundle."""
    import keras

    import pipcook_deploy

    keras.utils.set_random_seed(SEEDS.get(name, SEED))
    if name in SEEDS:
        pipcook_deploy.deploy(mlp(), out=out, to=("onnx",), name="mlp")
        return
    model = picture_model({"mobilenet_v2": "MobileNetV2", "resnet50": "ResNet50"}[name])
    labels = [f"class {i}" for i in range(1000)]
    pipcook_deploy.deploy(
        model, out=out, to=("onnx",), name=name, task="image-classification",
        labels=labels, preprocessing=IMAGE,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
