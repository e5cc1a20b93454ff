"""engine = "tensorflowjs": the reference converter, a program in an environment of its own."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.formats.tfjs_model import TfjsModel, read_model
from pipcook_deploy.model import Model
from pipcook_deploy.run import run
from pipcook_deploy.spec import TensorSpec
from pipcook_deploy.tools import reference_converter

if TYPE_CHECKING:
    from pipcook_deploy.converters.to_tfjs import TfjsConverter

TIMEOUT = 1800  # seconds; it needs ten to import itself
# Nothing of this environment may reach the other one.
ENVIRONMENT = {
    "PYTHONPATH": "", "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1",
}  # fmt: skip
_INPUT_FORMATS = {
    "saved_model": "tf_saved_model", "keras_h5": "keras", "tfjs_layers": "tfjs_layers_model",
}  # fmt: skip
_OUTPUT_FORMATS = {"graph": "tfjs_graph_model", "layers": "tfjs_layers_model"}


def convert_with_reference(options: "TfjsConverter", model: Model, into: Path) -> Artifact:
    """Write `model` below `into` with `tensorflowjs_converter`.

    It reads no Keras 3: such a model is rebuilt in Keras 2 first. Raises `MissingDependencyError` when its
    environment is not there, `ConversionError` with its output when it fails.
    """
    program = reference_converter()
    with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
        source = _readable(model, Path(scratch))
        arguments = [
            f"--input_format={_INPUT_FORMATS[source.format]}",
            f"--output_format={_OUTPUT_FORMATS[options.kind]}",
            f"--weight_shard_size_bytes={options.shard_size}",
            *_quantization(options),
        ]
        if source.format == "saved_model":
            arguments.append(f"--signature_name={model.signature or 'serving_default'}")
        run([program, *arguments, source.path, into], env=ENVIRONMENT, timeout=TIMEOUT)
    written = read_model(into / "model.json")
    return Artifact(
        format="tfjs",
        model_format=written.format,
        path=into,
        entry="model.json",
        inputs=_bindings(written, "inputs", model.spec.inputs),
        outputs=_bindings(written, "outputs", model.spec.outputs),
        precision=options.precision,
        details={"engine": written.converted_by or "tensorflowjs"},
    )


def _readable(model: Model, scratch: Path) -> Model:
    if model.format != "keras":
        return model
    from pipcook_deploy.converters.to_keras_h5 import KerasH5Converter

    built = KerasH5Converter().convert(model, scratch)
    return Model(built.file, built.model_format, model.spec)


def _quantization(options: "TfjsConverter") -> list[str]:
    """One flag a precision; its value lists globs of weight names."""
    asked: dict[str, list[str]] = {}
    for pattern, precision in options.weights.items():
        asked.setdefault(precision, []).append(pattern)
    asked.setdefault(options.precision, []).append("*")
    return [f"--quantize_{p}={','.join(globs)}" for p, globs in asked.items() if p != "float32"]


def _bindings(written: TfjsModel, kind: str, specs: tuple[TensorSpec, ...]) -> tuple[Binding, ...]:
    """A graph has the spec's names in its signature; a layers-model is paired by the runtime, in order."""
    keys = (written.signature or {}).get(kind, {})
    missing = [
        spec.name for spec in specs if written.format == "tfjs_graph" and spec.name not in keys
    ]
    if missing:
        raise ConversionError(f"the converted graph has no {kind} called {', '.join(missing)}")
    return tuple(Binding(s.name, s.name, s.dtype, s.shape) for s in specs)
