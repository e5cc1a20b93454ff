"""A tf_keras model whose int8 rounding is part of it, made with tfmot, and the way back to plain weights."""

import re
from collections.abc import Sequence
from typing import Any

from pipcook_deploy.compression.qat_plan import MOVING, LayerPlan
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import call_keras

PREFIX = "quant_"

# tfmot's default of 0.999 needs thousands of steps before a range is the tensor's and not the initial -6 to 6.
DECAY = 0.99

# What tfmot raises, for want of an error class of its own.
ERRORS = (
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
)


def quantized(model: Any, rows: Sequence[LayerPlan]) -> Any:
    """A copy of `model` (tf_keras) that rounds as planned. Raises `CompressionError` with tfmot's reason."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    from pipcook_deploy.keras_rebuild.build import newer_activations

    keras = tfmot.quantization.keras
    by_name = {row.name: row for row in rows}

    def annotated(layer: Any) -> Any:
        row = by_name.get(layer.name)
        if row is None or row.how == "float":
            return layer
        return keras.quantize_annotate_layer(layer, _config(row))

    _reserve_names(model)
    try:
        with tf_keras.utils.custom_object_scope(newer_activations()), keras.quantize_scope():
            copy = tf_keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            copy = tf_keras.models.clone_model(copy, clone_function=annotated)
            return keras.quantize_apply(copy, _scheme(), quantized_layer_name_prefix=PREFIX)
    except ERRORS as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CompressionError(
            f"qat: tfmot cannot take the model {model.name}: {lines[0][:300]}",
            "leave the pass out, or set fallback = 'post_training'",
        ) from error


def _config(row: LayerPlan) -> Any:
    """How a layer is rounded; None for what tfmot's registry says."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_configs as outputs,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as weights,
    )

    if row.how == "range":
        return outputs.Default8BitOutputQuantizeConfig()
    if row.kind == "Conv1D":
        return weights.Default8BitConvQuantizeConfig(["kernel"], ["activation"], False)
    if row.kind == "Embedding":
        return weights.Default8BitQuantizeConfig(["embeddings"], [], True)
    return outputs.NoOpQuantizeConfig() if row.kind in MOVING else None


def _scheme() -> Any:
    """tfmot's own, but inputs that are whole numbers are not rounded: they are ids."""
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_layout_transform as layout,
    )
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_scheme as scheme,
    )

    class FloatInputs(layout.Default8BitQuantizeLayoutTransform):  # type: ignore[misc]
        def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> Any:
            for tensor, name in zip(model.inputs, model.input_names, strict=True):
                if not tensor.dtype.is_floating:
                    layer_quantize_map.pop(name, None)
            return super().apply(model, layer_quantize_map)

    class Scheme(scheme.Default8BitQuantizeScheme):  # type: ignore[misc]
        def get_layout_transformer(self) -> Any:
            return FloatInputs()

    return Scheme()


def _reserve_names(model: Any) -> None:
    """Keep tfmot, which divides separable convolutions, from giving the parts names that the model has."""
    from tf_keras import backend

    for layer in model.layers:
        found = re.fullmatch(r"(conv2d|depthwise_conv2d|separable_conv2d)(?:_(\d+))?", layer.name)
        while found and backend.get_uid(found[1]) <= int(found[2] or 0) + 1:
            continue


def observe_ranges(model: Any, batches: Sequence[Sequence[Any]]) -> None:
    """Set the ranges of all activations to what the batches have, and let them follow faster from then on.

    `batches` are lists of tensors in the order of the model's inputs.
    """
    observers = _followers(model)
    norms = [part for part in model.submodules if type(part).__name__ == "BatchNormalization"]
    before = [norm.trainable for norm in norms]
    for norm in norms:  # or their statistics would move too
        norm.trainable = False
    for number, batch in enumerate(batches):
        for observer in observers:
            observer.decay = number / (number + 1)  # the mean over the batches so far
        call_keras(model, [*batch], training=True)
    for norm, trainable in zip(norms, before, strict=True):
        norm.trainable = trainable
    for observer in observers:
        observer.decay = DECAY


def _followers(model: Any) -> list[Any]:
    """The quantizers of activations, exchanged for some whose averages forget as fast as `decay` says."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops
    from tensorflow_model_optimization.python.core.quantization.keras.quantizers import (
        MovingAverageQuantizer,
    )

    class Follower(MovingAverageQuantizer):  # type: ignore[misc]
        decay = DECAY

        def __call__(self, inputs: Any, training: bool, weights: Any, **_: Any) -> Any:
            return quant_ops.MovingAvgQuantize(
                inputs,
                weights["min_var"],
                weights["max_var"],
                ema_decay=self.decay,
                is_training=training,
                num_bits=self.num_bits,
                per_channel=self.per_axis,
                symmetric=self.symmetric,
                narrow_range=self.narrow_range,
            )

    found = []
    for layer in model.layers:
        outputs = getattr(layer, "_output_quantizers", None) or []
        for place, quantizer in enumerate(outputs):
            if isinstance(quantizer, MovingAverageQuantizer):
                outputs[place] = Follower(**quantizer.get_config())
                found.append(outputs[place])
        for activation in getattr(layer, "_quantize_activations", []):
            if isinstance(activation.quantizer, MovingAverageQuantizer):
                activation.quantizer = Follower(**activation.quantizer.get_config())
                found.append(activation.quantizer)
    return found


def plain_weights(made: Any, model: Any, rows: Sequence[LayerPlan]) -> None:
    """Give `model`, which `made` was made from, the weights that `made` has now.

    Layers that tfmot divided keep theirs.
    """
    layers = {layer.name: layer for layer in made.layers}
    for row in rows:
        layer = model.get_layer(row.name)
        wrapper = layers.get(row.name if row.how == "float" else f"{PREFIX}{row.name}")
        if layer.weights and wrapper is not None:
            values = {variable.name: variable.numpy() for variable in wrapper.weights}
            layer.set_weights([values[variable.name] for variable in layer.weights])
