"""Opens Keras models: archives and Keras 3 `.h5` with Keras 3, legacy `.h5` with tf_keras (Keras 2).

Keras 3 cannot open many legacy files, and tf_keras no new ones, so the format decides, never a retry.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import SourceError, UntrustedSourceError
from pipcook_deploy.model import Model
from pipcook_deploy.sources.untrusted import check_layers
from pipcook_deploy.text import numbered


def load_keras(model: Model) -> Any:
    """The model for inference, not compiled.

    Raises `UntrustedSourceError` for a model that carries Python code unless `model.trusted`, `SourceError`
    for what Keras cannot open.
    """
    if not model.trusted:
        check_layers(str(model.path), read_config(model.path), trusted=False)
    try:
        if model.format == "keras_h5":
            return _load_legacy(model.path)
        return _load_keras3(model)
    except (ValueError, TypeError, KeyError, AttributeError, OSError, ImportError) as error:
        raise _explained(model, error) from error


def read_config(path: Path) -> Any:
    """The architecture in a Keras file as plain data; nothing is executed."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        import h5py

        with h5py.File(path, "r") as file:
            return json.loads(file.attrs["model_config"])
    except (OSError, KeyError, ValueError) as error:
        raise SourceError(f"{path}: is not a complete Keras model: {error}") from error


def _load_keras3(model: Model) -> Any:
    import keras

    keras.backend.clear_session()  # names restart, so that the same file gives the same graph
    return keras.saving.load_model(str(model.path), compile=False, safe_mode=not model.trusted)


def _load_legacy(path: Path) -> Any:
    import tf_keras

    tf_keras.backend.clear_session()
    return tf_keras.models.load_model(str(path), compile=False)


def _explained(model: Model, error: Exception) -> SourceError:
    text = str(error)
    reason = (text.strip().splitlines() or [type(error).__name__])[0][:300]
    if "Lambda" in text and "safe_mode" in text:
        return UntrustedSourceError(
            f"{model.path}: has Python code inside: {reason}",
            "if you trust where it comes from, run again with --trust-source",
        )
    if "Could not locate" in text or "Unknown layer" in text:
        return SourceError(
            f"{model.path}: uses a class that is not in Keras: {reason}",
            "export it with model.export(...) and give the SavedModel folder instead",
        )
    return SourceError(f"{model.path}: Keras cannot open it: {reason}")


def is_legacy(model: Any) -> bool:
    """Whether a live model is of Keras 2 (tf_keras)."""
    return type(model).__module__.split(".")[0] == "tf_keras" or any(
        kind.__module__.startswith("tf_keras.") for kind in type(model).__mro__
    )


def interface_names(model: Any) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs: those of the layers that make them, made unique by `_1`, `_2`...

    Names of symbolic tensors are no good: they count up over a process.
    """
    if not getattr(model, "inputs", None):
        raise SourceError(
            f"the model {model.name} has no inputs: it was never built",
            "call it once, or give its first layer an Input, before saving",
        )
    return _unique(model.inputs), _unique(model.outputs)


def _unique(tensors: list[Any]) -> list[str]:
    histories = (tensor._keras_history for tensor in tensors)
    return numbered(
        str((history[0] if isinstance(history, tuple) else history.operation).name)
        for history in histories
    )


def spec_names(model: Model, keras_model: Any) -> tuple[list[str], list[str]]:
    """The spec's names in the order of the Keras model's own inputs and outputs.

    Raises `SourceError` if the spec describes another number of tensors.
    """
    inputs, outputs = interface_names(keras_model)
    return (
        _in_order(model, inputs, [t.name for t in model.spec.inputs], "inputs"),
        _in_order(model, outputs, [t.name for t in model.spec.outputs], "outputs"),
    )


def _in_order(model: Model, own: list[str], wanted: list[str], what: str) -> list[str]:
    if not wanted or set(own) == set(wanted):
        return own
    if len(own) != len(wanted):
        raise SourceError(f"{model.path}: has {len(own)} {what}, its spec names {len(wanted)}")
    return wanted  # the spec lists them in the order of the file


def call_keras(keras_model: Any, flat_inputs: list[Any], training: bool = False) -> list[Any]:
    """Answer: tensors in the order of `inputs` in, in the order of `outputs` out."""
    if is_legacy(keras_model):
        import tensorflow as tf

        structure = getattr(keras_model, "_nested_inputs", None)
        flatten, pack = tf.nest.flatten, tf.nest.pack_sequence_as
    else:
        import keras

        functional = getattr(keras_model, "_functional", None) or keras_model
        structure = getattr(functional, "_inputs_struct", None)
        flatten, pack = keras.tree.flatten, keras.tree.pack_sequence_as
    if structure is None:
        packed = flat_inputs if len(flat_inputs) > 1 else flat_inputs[0]
    else:
        packed = pack(structure, flat_inputs)
    result: list[Any] = flatten(keras_model(packed, training=training))
    return result
