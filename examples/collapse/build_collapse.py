"""Build a network that is as good as its twin in float32, and useless in int8 with one scale a tensor.

    python build_collapse.py [--data FOLDER] [--epochs 3] [--power 5]

A depthwise-separable CNN is trained on Fashion-MNIST, its batch norms are folded, and `plain.keras` saved. Then
channels of some kernels are multiplied by powers of two, which the next kernel divides by: ReLU lets positive
factors pass, so `model.keras` computes the same function, down to the last bit.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fashion-mnist"))

from dataset import INSTALLED, LABELS, Array, load  # noqa: E402 - of the other example

BATCH = 128
BLOCKS = ((32, 1), (48, 2), (64, 1))  # channels and stride


def build(normalized: bool) -> keras.Model:
    """float32 [n, 28, 28, 1], 0-1 -> 10 probabilities; with batch norms to train, without to be scaled."""
    layers = keras.layers

    def finished(x: Any, name: str) -> Any:
        if normalized:
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    image = keras.Input((28, 28, 1), name="image")
    options: dict[str, Any] = {"padding": "same", "use_bias": not normalized}
    x = finished(layers.Conv2D(16, 3, strides=2, name="stem", **options)(image), "stem")
    for i, (channels, strides) in enumerate(BLOCKS):
        x = layers.DepthwiseConv2D(3, strides=strides, name=f"depthwise{i}", **options)(x)
        x = finished(x, f"depthwise{i}")
        x = finished(
            layers.Conv2D(channels, 1, name=f"pointwise{i}", **options)(x), f"pointwise{i}"
        )
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    probabilities = layers.Dense(len(LABELS), activation="softmax", name="probabilities")(x)
    return keras.Model(image, probabilities, name="collapse")


def pixels(images: Array) -> Array:
    """uint8 [n, 28, 28] -> float32 [n, 28, 28, 1], 0-1."""
    return (images[..., None] / 255.0).astype(np.float32)


def train(images: Array, labels: Array, epochs: int) -> keras.Model:
    """Adam, cosine decay."""
    keras.utils.set_random_seed(0)
    model = build(normalized=True)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, epochs * -(-len(images) // BATCH))
    model.compile(
        keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(pixels(images), labels, batch_size=BATCH, epochs=epochs, verbose=2)
    return model


def folded(trained: keras.Model) -> keras.Model:
    """The same function without batch norms: w' = w g, b' = beta - mean g with g = gamma / sqrt(var + e)."""
    plain = build(normalized=False)
    for layer in plain.layers:
        if not layer.weights:
            continue
        source = trained.get_layer(layer.name)
        if layer.name == "probabilities":
            layer.set_weights(source.get_weights())
            continue
        norm = trained.get_layer(f"{layer.name}_norm")
        gamma, beta, mean, variance = norm.get_weights()
        gain = gamma / np.sqrt(variance + norm.epsilon)
        (kernel,) = source.get_weights()
        layer.set_weights([kernel * by_output(layer, gain), beta - mean * gain])
    return plain


def by_output(layer: Any, values: Array) -> Array:
    """Factors of output channels in the shape of a kernel: the third axis of a depthwise one."""
    return values[:, None] if "depthwise" in layer.name else values


def collapsed(plain: keras.Model, power: int) -> keras.Model:
    """Output channels of the stem, and of each pointwise kernel but the last, times 2^-power ... 2^power.

    The depthwise kernel that follows has one filter a channel, and is divided by the same factor.
    """
    random = np.random.default_rng(0)
    model = keras.models.clone_model(plain)
    model.set_weights(plain.get_weights())
    before = ["stem", *(f"pointwise{i}" for i in range(len(BLOCKS) - 1))]
    for i, name in enumerate(before):
        kernel, bias = model.get_layer(name).get_weights()
        exponents = random.integers(-power, power + 1, len(bias))
        exponents[:2] = -power, power  # both ends are there, whatever is drawn
        factors = np.float32(2.0) ** exponents
        model.get_layer(name).set_weights([kernel * factors, bias * factors])
        kernel, bias = model.get_layer(f"depthwise{i}").get_weights()
        model.get_layer(f"depthwise{i}").set_weights([kernel / factors[:, None], bias])
    return model


def accuracy(model: keras.Model, images: Array, labels: Array) -> float:
    """Share of right answers."""
    answers = model.predict(pixels(images), batch_size=500, verbose=0).argmax(axis=-1)
    return round(float((answers == labels).mean()), 4)


def main() -> None:
    """Train, fold, scale, compare, and save `plain.keras`, `model.keras` and `metrics.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=INSTALLED, help="a folder of idx files")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--power", type=int, default=5, help="channels are scaled by up to 2^power")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()

    plain = folded(train(*load("train", arguments.data), arguments.epochs))
    model = collapsed(plain, arguments.power)
    images, labels = load("t10k", arguments.data)
    sample = pixels(images[:500])
    difference = float(
        np.abs(plain.predict(sample, verbose=0) - model.predict(sample, verbose=0)).max()
    )
    metrics = {"accuracy": accuracy(model, images, labels), "images": len(images)}
    print(
        f"{model.count_params():,} parameters, {metrics}, differs by {difference} from plain.keras"
    )
    for name, made in (("plain", plain), ("model", model)):
        made.save(arguments.out / f"{name}.keras")
    (arguments.out / "metrics.json").write_text(json.dumps(metrics) + "\n")


if __name__ == "__main__":
    main()
