"""OpenVINO: runs ONNX artifacts and ONNX sources on the CPU, beside ONNX Runtime where it is installed."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import MissingDependencyError, SourceError, UnsupportedRuntimeError
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.runtimes.batches import BATCH, batched
from pipcook_deploy.runtimes.named import check_inputs, native_inputs, spec_outputs

_PLACES = ("Exception from", "Check '", "FrontEnd API failed")  # of the program, not of the model
# What it says of operators, types and forms of operators that it does not translate.
_LACKS = ("OpConversionFailure", "not supported", "is not implemented", "Unsupported")


class OpenVinoRuntime(Runtime):
    """Runs `.onnx` files in float32 or their own int8: by itself OpenVINO computes in bfloat16."""

    name: ClassVar[str] = "openvino"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    additional: ClassVar[bool] = True

    @classmethod
    def installed(cls) -> bool:
        """Whether the package is there; it is not imported for that."""
        return find_spec("openvino") is not None

    @classmethod
    def require(cls) -> None:
        """The package, which is an extra."""
        if not cls.installed():
            raise MissingDependencyError(
                "openvino is not installed", "run: pip install 'pipcook-deploy[openvino]'"
            )

    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Run an artifact by its bindings."""
        results = _run(artifact.file, native_inputs(artifact, inputs))
        return spec_outputs(artifact, results)

    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """Run a source; its tensor names are the spec's."""
        return _run(model.path, inputs)

    def session(self, artifact: Artifact, threads: int) -> Callable[[Tensors], Tensors]:
        """Compiled once, for the shapes as they come."""
        call, _ = _opened(artifact.file, threads)
        return lambda inputs: spec_outputs(artifact, call(native_inputs(artifact, inputs)))


def _run(path: Path, inputs: Tensors) -> Tensors:
    call, wanted = _opened(path, 0)
    check_inputs(path, wanted, inputs)
    fixed = [size for size in wanted.values() if size is not None]
    return batched(call, inputs, fixed[0] if fixed else BATCH, exact=bool(fixed))


def _opened(path: Path, threads: int) -> tuple[Callable[[Tensors], Tensors], dict[str, int | None]]:
    """The compiled model, and the batch size of each input if that is fixed."""
    OpenVinoRuntime.require()
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        model = core.read_model(str(path))
        _check_types(path, model)
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _refusal(path, error) from error
    inputs = {port.get_any_name(): port for port in compiled.inputs}
    outputs = {name: port for port in compiled.outputs for name in port.get_names()}
    request = compiled.create_infer_request()

    def call(rows: Tensors) -> Tensors:
        fed = {name: rows[name].astype(port.element_type.to_dtype(), order="C", copy=False)
               for name, port in inputs.items()}  # fmt: skip
        try:
            results = request.infer(fed, share_inputs=True)
        except RuntimeError as error:
            raise SourceError(f"{path}: OpenVINO cannot run it: {first_words(error)}") from error
        return {name: results[port].copy() for name, port in outputs.items()}

    return call, {name: _batch(port) for name, port in inputs.items()}


def _check_types(path: Path, model: Any) -> None:
    if any(port.element_type.type_name == "string" for port in (*model.inputs, *model.outputs)):
        raise UnsupportedRuntimeError(f"{path}: OpenVINO takes no text here")


def _batch(port: Any) -> int | None:
    shape = port.partial_shape
    fixed = shape.rank.is_static and len(shape) > 0 and shape[0].is_static
    return int(shape[0].get_length()) if fixed else None


def _refusal(path: Path, error: RuntimeError) -> SourceError | UnsupportedRuntimeError:
    if any(words in str(error) for words in _LACKS):
        return UnsupportedRuntimeError(f"OpenVINO does not translate it: {first_words(error)}")
    return SourceError(f"{path}: OpenVINO cannot open it: {first_words(error)}")


def first_words(error: RuntimeError) -> str:
    """OpenVINO's own words are behind the places in its source that the exception went through."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    failed = re.findall(
        r"^-- (?:Conversion is failed for|No conversion rule found for operations): (.+)",
        str(error),
        re.MULTILINE,
    )
    if failed:
        return str(failed[0])[:300]
    said = [line for line in lines if not line.startswith(_PLACES)]
    return (said or lines or ["no reason given"])[0][:300]
