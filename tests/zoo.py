"""The architectures that every format is measured with: small, seeded, batch norms perturbed.

Names of inputs and layers are fixed and weights depend on `SEED` alone, so the same function gives the
same model in every process. Frameworks are imported inside the functions.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

SEED = 7
SIDE = 96  # pixels of the application models
STEPS, VOCABULARY = 40, 50  # of the sequence models


def _build(make: Callable[[Any], Any]) -> Any:
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    return _perturbed(make(keras))


def _perturbed(model: Any) -> Any:
    """Give batch norms and biases values that a converter cannot lose unnoticed.

    Statistics are those of random samples (otherwise activations die out with depth and the answer does
    not depend on the input), each moved by up to 30 %. Gammas are near a half, as in trained networks:
    with gammas of one a deep random network is chaotic, and a rounding error grows to 1e-3 by itself.
    """
    rng = np.random.default_rng(SEED)
    norms = [x for x in _leaves(model) if type(x).__name__ == "BatchNormalization"]
    for layer in _leaves(model):
        kind = type(layer).__name__
        if kind == "Normalization" and layer.get_weights():
            mean, variance, count = layer.get_weights()
            noise = rng.uniform(0.1, 0.9, mean.shape).astype(mean.dtype)
            layer.set_weights([noise, variance + noise, count])
            layer.finalize_state()  # what it computes with are constants made from the weights
        elif kind != "BatchNormalization" and getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.uniform(-0.1, 0.1, layer.bias.shape).astype("float32"))
    for layer in norms:
        if layer.scale:
            layer.gamma.assign(rng.uniform(0.3, 0.7, layer.gamma.shape).astype("float32"))
    if norms:
        _measure(model, norms)
    for layer in norms:
        gamma = layer.get_weights()[:1] if layer.scale else []
        others = layer.get_weights()[len(gamma) :]
        layer.set_weights([*gamma, *(_moved(rng, weight) for weight in others)])
    return model


def _measure(model: Any, norms: list[Any]) -> None:
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    outputs_of(model, sample_inputs(model, 24, seed=SEED + 1), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        *others, variance = layer.get_weights()
        # a channel that hardly varies would blow rounding errors up
        layer.set_weights([*others, np.maximum(variance, variance.mean())])


def _leaves(model: Any) -> list[Any]:
    found: list[Any] = []
    for layer in model.layers:
        found.extend(_leaves(layer) if hasattr(layer, "layers") else [layer])
    return found


def _moved(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    factor = rng.uniform(0.7, 1.3, weight.shape)
    shift = 0.1 if not weight.any() else 0.0  # beta starts at zero
    return (weight * factor + shift * (factor - 1)).astype(weight.dtype)


def mlp() -> "keras.Model":
    """Sequential, batch norm, 20 -> 5."""
    return _build(_mlp)


def _mlp(k: Any) -> Any:
    return k.Sequential(
        [
            k.Input((20,), name="features"),
            k.layers.Dense(32, activation="relu", name="dense_1"),
            k.layers.BatchNormalization(name="bn"),
            k.layers.Dropout(0.3, name="dropout"),
            k.layers.Dense(16, activation="tanh", name="dense_2"),
            k.layers.Dense(5, activation="softmax", name="probabilities"),
        ],
        name="mlp",
    )


def cnn() -> "keras.Model":
    """Separable and transposed convolutions, pooling: 28x28x1 -> 10."""
    return _build(_cnn)


def _cnn(k: Any) -> Any:
    x = image = k.Input((28, 28, 1), name="image")
    x = k.layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = k.layers.BatchNormalization(name="bn_1")(x)
    x = k.layers.ReLU(name="relu_1")(x)
    x = k.layers.MaxPooling2D(name="pool")(x)
    x = k.layers.SeparableConv2D(16, 3, padding="same", activation="relu", name="separable")(x)
    x = k.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = k.layers.BatchNormalization(name="bn_2")(x)
    x = k.layers.LeakyReLU(name="leaky")(x)
    x = k.layers.Conv2DTranspose(8, 3, strides=2, padding="same", name="transpose")(x)
    x = k.layers.GlobalAveragePooling2D(name="mean")(x)
    x = k.layers.Dense(10, activation="softmax", name="label")(x)
    return k.Model(image, x, name="cnn")


def lstm() -> "keras.Model":
    """Bidirectional and stacked: 40 tokens -> 2."""
    return _build(_lstm)


def _lstm(k: Any) -> Any:
    x = tokens = k.Input((STEPS,), dtype="int32", name="tokens")
    x = k.layers.Embedding(VOCABULARY, 16, name="embedding")(x)
    x = k.layers.Bidirectional(
        k.layers.LSTM(12, return_sequences=True, name="lstm_1"), name="both"
    )(x)
    x = k.layers.LSTM(8, name="lstm_2")(x)
    x = k.layers.Dense(2, activation="softmax", name="label")(x)
    return k.Model(tokens, x, name="lstm")


def lstm_mask() -> "keras.Model":
    """One LSTM over a masked embedding: padding is token 0."""
    return _build(_lstm_mask)


def _lstm_mask(k: Any) -> Any:
    x = tokens = k.Input((STEPS,), dtype="int32", name="tokens")
    x = k.layers.Embedding(VOCABULARY, 16, mask_zero=True, name="embedding")(x)
    x = k.layers.LSTM(8, name="lstm")(x)
    x = k.layers.Dense(2, activation="softmax", name="label")(x)
    return k.Model(tokens, x, name="lstm_mask")


def gru() -> "keras.Model":
    """One GRU over numbers: 40 x 6 -> 4."""
    return _build(_gru)


def _gru(k: Any) -> Any:
    x = series = k.Input((STEPS, 6), name="series")
    x = k.layers.GRU(12, name="gru")(x)
    x = k.layers.Dense(4, activation="softmax", name="label")(x)
    return k.Model(series, x, name="gru")


def transformer() -> "keras.Model":
    """One encoder block with exact GELU: 40 tokens -> 3."""
    return _build(_transformer)


def _transformer(k: Any) -> Any:
    tokens = k.Input((STEPS,), dtype="int32", name="tokens")
    x = k.layers.Embedding(VOCABULARY, 32, name="embedding")(tokens)
    a = k.layers.MultiHeadAttention(4, 8, name="attention")(x, x)
    x = k.layers.LayerNormalization(name="norm_1")(k.layers.Add(name="add_1")([x, a]))
    f = k.layers.Dense(64, activation="gelu", name="up")(x)
    f = k.layers.Dense(32, name="down")(f)
    x = k.layers.LayerNormalization(name="norm_2")(k.layers.Add(name="add_2")([x, f]))
    x = k.layers.GlobalAveragePooling1D(name="mean")(x)
    x = k.layers.Dense(3, activation="softmax", name="label")(x)
    return k.Model(tokens, x, name="transformer")


def multi_io() -> "keras.Model":
    """An image and a row in, a class and a number out; neither order is alphabetic."""
    return _build(_multi_io)


def _multi_io(k: Any) -> Any:
    picture = k.Input((16, 16, 3), name="picture")
    extra = k.Input((6,), name="extra")
    x = k.layers.Conv2D(8, 3, activation="relu", name="conv")(picture)
    x = k.layers.Flatten(name="flatten")(x)
    joined = k.layers.Concatenate(name="joined")([x, k.layers.Dense(8, name="row")(extra)])
    score = k.layers.Dense(1, name="score")(joined)
    kind = k.layers.Dense(4, activation="softmax", name="kind")(joined)
    return k.Model([picture, extra], [score, kind], name="multi_io")


def _application(name: str) -> "keras.Model":
    def make(k: Any) -> Any:
        image = k.Input((SIDE, SIDE, 3), name="image")
        build = getattr(k.applications, name)
        options: dict[str, Any] = {"alpha": 0.35} if name == "MobileNetV2" else {}
        model = build(weights=None, input_tensor=image, classes=10, **options)
        # the applications name their input otherwise in their structure: a list of one
        return k.Model(image, model.output, name=name.lower())

    return _unsaturated(_build(make))


def _unsaturated(model: Any) -> Any:
    """Scale the classifier to logits of deviation one: a saturated softmax hides differences."""
    import keras

    head = next(x for x in reversed(model.layers) if getattr(x, "kernel", None) is not None)
    features = keras.Model(model.inputs, head.input)
    values = outputs_of(features, sample_inputs(model, 4, seed=SEED + 2))[0]
    kernel, bias = head.get_weights()
    logits = values.reshape(-1, kernel.shape[-2]) @ kernel.reshape(kernel.shape[-2:])
    head.set_weights([kernel / np.std(logits), bias])
    return model


def mobilenet_v2() -> "keras.Model":
    """MobileNetV2 (alpha 0.35) at 96 px."""
    return _application("MobileNetV2")


def mobilenet_v3_small() -> "keras.Model":
    """MobileNetV3Small at 96 px: hard-swish, squeeze and excitation."""
    return _application("MobileNetV3Small")


def resnet50() -> "keras.Model":
    """ResNet50 at 96 px."""
    return _application("ResNet50")


def efficientnet_b0() -> "keras.Model":
    """EfficientNetB0 at 96 px: a Normalization layer inside."""
    return _application("EfficientNetB0")


ZOO: dict[str, Callable[[], "keras.Model"]] = {
    f.__name__: f
    for f in (
        mlp, cnn, lstm, lstm_mask, gru, transformer, multi_io,
        mobilenet_v2, mobilenet_v3_small, resnet50, efficientnet_b0,
    )
}  # fmt: skip

SMALL = ("mlp", "cnn", "lstm", "lstm_mask", "gru", "transformer", "multi_io")


def legacy(name: str) -> Any:
    """The Keras 2 (tf_keras) twin of one of `LEGACY`; save it with `model.save("x.h5")`."""
    import tf_keras

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(SEED)
    return _perturbed(LEGACY[name](tf_keras))


LEGACY: Mapping[str, Callable[[Any], Any]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "lstm": _lstm,
    "lstm_mask": _lstm_mask,
    "gru": _gru,
    "multi_io": _multi_io,
}


def sample_inputs(model: Any, n: int, seed: int = SEED) -> dict[str, np.ndarray]:
    """`n` samples for every input by name: token ids (some 0, for masks) or numbers in [0, 1).

    Samples differ in brightness and colour, so that what survives global pooling differs too.
    """
    rng = np.random.default_rng(seed)
    samples: dict[str, np.ndarray] = {}
    for tensor in model.inputs:
        shape = (n, *tensor.shape[1:])
        dtype = getattr(tensor.dtype, "name", tensor.dtype)
        if dtype.startswith("int"):
            values: np.ndarray = rng.integers(0, VOCABULARY, shape)
        else:
            # Models that scale their input expect pixels; less than a pixel apart is noise to them.
            top = 255 if any(type(x).__name__ == "Rescaling" for x in model.layers) else 1
            values = top * rng.random(shape) * rng.random((n, *[1] * (len(shape) - 2), shape[-1]))
        samples[input_name(tensor)] = values.astype(dtype)
    return samples


def input_name(tensor: Any) -> str:
    """The name of a symbolic input; Keras 2 may add `:0`."""
    return str(tensor.name).split(":")[0]


def outputs_of(
    model: Any, inputs: Mapping[str, np.ndarray], training: bool = False
) -> list[np.ndarray]:
    """What the model answers, in the order of `model.outputs`."""
    values = [inputs[input_name(t)] for t in model.inputs]
    result = model(values if len(values) > 1 else values[0], training=training)
    return [np.asarray(v) for v in (result if isinstance(result, (list, tuple)) else [result])]
