"""Train a small CNN on Fashion-MNIST and deploy it.

    python train.py [--data FOLDER] [--epochs 12] [--out dist/fashion-mnist]

The model takes what Pipcook 2 feeds: RGB images, 0-255, not scaled; its first layer, a batch
normalization, learns the scale.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from dataset import INSTALLED, LABELS, Array, as_rgb, load

HERE = Path(__file__).resolve().parent
BATCH = 128

# What turns an image file into the model's tensor; the same as a Pipcook pipeline's `?size=28&size=28`.
PREPROCESSING = (
    {"op": "decode", "channels": "rgb"},
    {"op": "resize", "height": 28, "width": 28, "method": "area_bilinear"},
    {"op": "cast", "dtype": "float32"},
)


def build(library: Any = keras) -> Any:
    """Five convolutions: float32 [n, 28, 28, 3] -> 10 probabilities, in Keras 3 or another Keras."""
    layers = library.layers
    image = library.Input((28, 28, 3), name="image")
    x = layers.BatchNormalization(name="scale")(image)
    for i, (filters, strides) in enumerate([(16, 1), (32, 2), (48, 1), (64, 2), (64, 1)]):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv{i}"
        )(x)
        x = layers.BatchNormalization(name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    probabilities = layers.Dense(len(LABELS), activation="softmax", name="probabilities")(x)
    return library.Model(image, probabilities, name="fashion_mnist")


def train(images: Array, labels: Array, epochs: int) -> keras.Model:
    """Adam, cosine decay; half of the images mirrored, anew in each epoch."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = build()
    steps = epochs * -(-len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(
        keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    pixels = as_rgb(images)
    for epoch in range(epochs):
        mirrored = random.random(len(pixels)) < 0.5
        pixels[mirrored] = pixels[mirrored, :, ::-1]
        history = model.fit(pixels, labels, batch_size=BATCH, verbose=0)
        print(f"epoch {epoch + 1}/{epochs}", _line(history.history), flush=True)
    return model


def _line(history: dict[str, list[float]]) -> str:
    return ", ".join(f"{key} {values[-1]:.4f}" for key, values in history.items())


def evaluate(model: keras.Model, images: Array, labels: Array) -> dict[str, float]:
    """Accuracy over all images, and how many they are."""
    answers = model.predict(as_rgb(images), batch_size=500, verbose=0).argmax(axis=-1)
    return {"accuracy": round(float((answers == labels).mean()), 4), "images": len(images)}


def main() -> None:
    """Train, save `model.keras` and `metrics.json` here, and deploy the live model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=INSTALLED, help="a folder of idx files")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--out", type=Path, default=HERE.parents[1] / "dist" / "fashion-mnist-keras"
    )
    arguments = parser.parse_args()

    model = train(*load("train", arguments.data), arguments.epochs)
    metrics = evaluate(model, *load("t10k", arguments.data))
    print(f"{model.count_params():,} parameters, {metrics}")
    keras.Model(model.inputs, model.outputs, name=model.name).save(HERE / "model.keras")
    (HERE / "metrics.json").write_text(json.dumps(metrics) + "\n")
    hand_over(model, metrics, arguments.out)


def hand_over(model: keras.Model, metrics: dict[str, float], out: Path) -> None:
    """The last line of a training script: everything after the model is the deploy stage's."""
    from pipcook_deploy import deploy

    bundle = deploy(
        model,
        to=("tfjs", "onnx", "saved_model", "tflite"),
        out=out,
        name="fashion-mnist",
        version="1.0.0",
        task="image-classification",
        labels=LABELS,
        preprocessing=PREPROCESSING,
        metrics=metrics,
        samples=HERE / "samples",
        license="MIT",
    )
    print(f"bundle: {bundle.path}")


if __name__ == "__main__":
    main()
