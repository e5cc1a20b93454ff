"""A tf_keras model whose int8 rounding is part of it, made with tfmot, and the way back to plain weights."""

import re
from collections.abc import Sequence
from typing import Any

from pipcook_deploy.compression.qat_plan import MOVING, LayerPlan
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import call_keras

PREFIX = "quant_"

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
        # One scale: tfmot's quantizer with one a channel takes kernels of 1, 2 and 4 axes.
        return weights.Default8BitQuantizeConfig(["kernel"], ["activation"], False)
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
    """Set the ranges of all activations to the extremes in `batches`; training widens them from then on.

    `batches` are lists of tensors in the order of the model's inputs.
    """
    _keep_extremes(model)
    norms = [part for part in model.submodules if type(part).__name__ == "BatchNormalization"]
    before = [norm.trainable for norm in norms]
    for norm in norms:  # or their statistics would move too
        norm.trainable = False
    for batch in batches:
        call_keras(model, [*batch], training=True)
    for norm, trainable in zip(norms, before, strict=True):
        norm.trainable = trainable


def _keep_extremes(model: Any) -> None:
    """Let quantizers of activations follow the extremes of all batches, from zero on.

    tfmot's are averages that start at -6 and 6: after the few hundred steps of a fine-tuning they would still be
    there. They cut tails off, too, which ruins outputs that are numbers.
    """
    from tensorflow_model_optimization.python.core.quantization.keras.quantizers import (
        AllValuesQuantizer,
        MovingAverageQuantizer,
    )

    def extremes(quantizer: Any) -> Any:
        known = isinstance(quantizer, MovingAverageQuantizer)
        return AllValuesQuantizer(**quantizer.get_config()) if known else quantizer

    for layer in model.layers:
        outputs = getattr(layer, "_output_quantizers", None) or []
        outputs[:] = [extremes(quantizer) for quantizer in outputs]
        for activation in getattr(layer, "_quantize_activations", []):
            activation.quantizer = extremes(activation.quantizer)
        for variable in layer.weights:
            if re.search(r"(output|activation)_(min|max):0$", variable.name):
                variable.assign(0.0)


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
