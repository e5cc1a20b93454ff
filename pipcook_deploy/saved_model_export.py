"""Exports live Keras models as SavedModels with one default signature."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.keras_io import call_keras, spec_names
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_io import DEFAULT, binding, canonicalize
from pipcook_deploy.saved_model_names import parameter_names


def export_keras(model: Model, keras_model: Any, into: Path, batch: int | None = None) -> Artifact:
    """Write a live Keras model; `batch` fixes the batch axis (None: as the model has it, dynamic)."""
    import tensorflow as tf

    inputs, outputs = spec_names(model, keras_model)
    parameters = parameter_names(inputs)
    specs = {
        name: tf.TensorSpec(_shape(tensor, batch), tensor.dtype, name=parameters[name])
        for name, tensor in zip(inputs, keras_model.inputs, strict=True)
    }

    def serve(*tensors: Any) -> dict[str, Any]:
        return dict(zip(outputs, call_keras(keras_model, list(tensors)), strict=True))

    def track(module: Any, concrete: Any) -> None:
        module.weights = _variables(keras_model, concrete)
        module.tables = _tables(keras_model)

    return save_as_default(model, serve, specs, outputs, into, track)


def save_as_default(
    model: Model,
    serve: Callable[..., dict[str, Any]],
    specs: Mapping[str, Any],
    outputs: Sequence[str],
    into: Path,
    track: Callable[[Any, Any], None] = lambda module, concrete: None,
) -> Artifact:
    """Write a function as the default signature; its results are `outputs`, by name.

    `specs` has a `tf.TensorSpec` for each input by its name, in the order in which `serve` takes them, and
    called as in `parameter_names`. `track` attaches what the concrete function needs to the module.
    """
    import tensorflow as tf

    function = tf.function(serve, input_signature=[*specs.values()], autograph=False)
    concrete = function.get_concrete_function()
    module = tf.Module()
    track(module, concrete)
    _attach_labels(module, model, into)
    tf.saved_model.save(module, str(into), signatures={DEFAULT: concrete})
    (into / "labels.txt").unlink(missing_ok=True)
    canonicalize(into, {spec.name: name for name, spec in specs.items() if spec.name != name})
    return Artifact(
        "saved_model",
        "saved_model",
        into,
        ".",
        tuple(binding(name, name, spec) for name, spec in specs.items()),
        tuple(binding(name, name, concrete.structured_outputs[name]) for name in outputs),
        details={"signature": DEFAULT},
    )


def _shape(tensor: Any, batch: int | None) -> tuple[int | None, ...]:
    shape = tuple(tensor.shape)
    return shape if batch is None else (batch, *shape[1:])


def _variables(keras_model: Any, concrete: Any) -> list[Any]:
    """The variables that the function reads, in the model's order (TensorFlow's own order is random)."""
    used = {id(variable): variable for variable in concrete.graph.variables}
    own = [getattr(variable, "_value", variable) for variable in keras_model.variables]
    ordered = [used.pop(id(variable)) for variable in own if id(variable) in used]
    return ordered + sorted(used.values(), key=lambda variable: str(variable.name))


def _tables(keras_model: Any) -> list[Any]:
    layers = keras_model._flatten_layers()
    found = [getattr(layer, "lookup_table", None) for layer in layers]
    return [table for table in found if table is not None]


def _attach_labels(module: Any, model: Model, into: Path) -> None:
    """One label a line in `assets/labels.txt`; line breaks within a label become blanks."""
    import tensorflow as tf

    if model.spec.labels:
        path = into / "labels.txt"
        path.write_text(label_lines(model.spec.labels), encoding="utf-8")
        module.labels = tf.saved_model.Asset(str(path))


def label_lines(labels: tuple[str, ...]) -> str:
    return "".join(" ".join(label.splitlines()) + "\n" for label in labels)
