"""Writes recurrences out: a Keras model or a SavedModel without loops, with the same weights."""

from pathlib import Path
from typing import Any

from pipcook_deploy.errors import ConversionError
from pipcook_deploy.keras_io import is_legacy
from pipcook_deploy.saved_model_io import DEFAULT, Serving

STEP_LIMIT = 512  # steps of a SavedModel's loop that are written out
_CELLS = ("LSTM", "GRU", "SimpleRNN", "RNN")


def longest_recurrence(model: Any) -> int | None:
    """Most steps of a recurrent layer; None without one.

    Raises `ConversionError` where the number of steps is not fixed.
    """
    lengths = []
    for layer in _recurrent(model):
        steps = _steps(layer)
        if steps is None:
            raise ConversionError(
                f"tflite: the layer {layer.name} takes sequences of any length; TFLite needs a fixed one",
                "build the model with a fixed number of steps",
            )
        lengths.append(steps)
    return max(lengths, default=None)


def unrolled(model: Any) -> Any:
    """A clone whose recurrent layers are unrolled; names of layers, inputs and weights stay."""
    if is_legacy(model):
        import tf_keras as framework
    else:
        import keras as framework

    def clone(layer: Any) -> Any:
        if hasattr(layer, "layers"):
            return unrolled(layer)
        config = layer.get_config()
        if type(layer).__name__ in _CELLS:
            config["unroll"] = True
        elif type(layer).__name__ == "Bidirectional":
            for key in ("layer", "backward_layer"):
                if config.get(key):
                    config[key]["config"]["unroll"] = True
        return type(layer).from_config(config)

    copy = framework.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def unrolled_saved_model(serving: Serving, into: Path) -> None:
    """Write a SavedModel to `into` whose default signature is `serving` without loops, frozen.

    Raises `UnsupportedConversionError` where the number of steps is not fixed.
    """
    import tensorflow as tf

    # The TF.js graph writer has the machinery; TensorFlow has none that ends loops.
    from pipcook_deploy.converters.tfjs.tf_graph import graph_of, to_graph_def

    graph, _, _ = graph_of(serving, STEP_LIMIT)
    graph_def = to_graph_def(graph)
    imported = tf.compat.v1.wrap_function(
        lambda: tf.compat.v1.import_graph_def(graph_def, name=""), []
    )
    element = imported.graph.as_graph_element
    keys = [key for key, _ in serving.inputs]
    outputs = {key: element(_tensor_name(name)) for key, name in graph.outputs.items()}
    pruned = imported.prune([element(_tensor_name(graph.inputs[k])) for k in keys], outputs)
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=serving.plain[key])
        for key, spec in serving.inputs
    ]
    function = tf.function(
        lambda *tensors: pruned(*tensors), input_signature=specs, autograph=False
    )
    module = tf.Module()
    tf.saved_model.save(module, str(into), signatures={DEFAULT: function.get_concrete_function()})


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _recurrent(model: Any) -> list[Any]:
    found: list[Any] = []
    for layer in model.layers:
        if type(layer).__name__ in (*_CELLS, "Bidirectional"):
            found.append(layer)
        elif hasattr(layer, "layers"):
            found.extend(_recurrent(layer))
    return found


def _steps(layer: Any) -> int | None:
    """Of the first call: a mask or a state may come with the sequence, and a layer may be shared."""
    tensors = layer._inbound_nodes[0].input_tensors
    first = tensors[0] if isinstance(tensors, list | tuple) else tensors
    return None if first.shape[1] is None else int(first.shape[1])
