"""TensorFlow: runs SavedModels, and Keras models as sources."""

from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.keras_io import call_keras, load_keras, spec_names
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.runtimes.batches import BATCH, batched
from pipcook_deploy.runtimes.named import check_inputs, native_inputs, spec_outputs
from pipcook_deploy.saved_model_io import open_signature
from pipcook_deploy.spec import ModelSpec


class TensorFlowRuntime(Runtime):
    """Runs SavedModels, Keras archives and HDF5 files in inference mode."""

    name: ClassVar[str] = "tensorflow"
    formats: ClassVar[tuple[str, ...]] = ("keras", "keras_h5", "saved_model")
    heavy: ClassVar[bool] = True

    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Run the signature that the artifact names, the default one if it names none."""
        signature = artifact.details.get("signature")
        name = signature if isinstance(signature, str) else None
        native = Model(artifact.file, "saved_model", ModelSpec(), signature=name)
        return spec_outputs(artifact, _run_saved_model(native, native_inputs(artifact, inputs)))

    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """Run a source model."""
        if model.format == "saved_model":
            return _run_saved_model(model, inputs)
        return _run_keras(model, inputs)


def _run_saved_model(model: Model, inputs: Tensors) -> Tensors:
    serving = open_signature(model)
    check_inputs(model.path, [key for key, _ in serving.inputs], inputs)

    def call(rows: Tensors) -> Tensors:
        fed = {key: _tensor(rows[key], spec.dtype) for key, spec in serving.inputs}
        return {k: v.numpy() for k, v in serving.call(fed).items()}

    fixed = [s.shape[0] for _, s in serving.inputs if s.shape.rank and s.shape[0] is not None]
    return batched(call, inputs, fixed[0] if fixed else BATCH, exact=bool(fixed))


def _run_keras(model: Model, inputs: Tensors) -> Tensors:
    import numpy as np

    loaded = load_keras(model)
    names, outputs = spec_names(model, loaded)
    check_inputs(model.path, names, inputs)
    fixed = [t.shape[0] for t in loaded.inputs if len(t.shape) and t.shape[0] is not None]

    def call(rows: Tensors) -> Tensors:
        fed = [_tensor(rows[n], t.dtype) for n, t in zip(names, loaded.inputs, strict=True)]
        return {n: np.asarray(v) for n, v in zip(outputs, call_keras(loaded, fed), strict=True)}

    return batched(call, inputs, fixed[0] if fixed else BATCH, exact=bool(fixed))


def _tensor(value: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tf.constant(value.tolist() if value.dtype.kind in "OU" else value, dtype=dtype)
