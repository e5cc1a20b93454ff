"""ONNX Runtime: runs ONNX artifacts and ONNX sources on the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.runtimes.batches import BATCH, batched
from pipcook_deploy.runtimes.named import check_inputs, native_inputs, spec_outputs

_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip


class OnnxRuntime(Runtime):
    """Runs `.onnx` files."""

    name: ClassVar[str] = "onnxruntime"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)

    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Run an artifact by its bindings."""
        results = _run(artifact.file, native_inputs(artifact, inputs))
        return spec_outputs(artifact, results)

    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """Run a source; its tensor names are the spec's."""
        return _run(model.path, inputs)

    def session(self, artifact: Artifact, threads: int) -> Callable[[Tensors], Tensors]:
        """Opened once, on `threads` threads."""
        call = _caller(_session(artifact.file, threads))
        return lambda inputs: spec_outputs(artifact, call(native_inputs(artifact, inputs)))


def _run(path: Path, inputs: Tensors) -> Tensors:
    session = _session(path)
    wanted = session.get_inputs()
    check_inputs(path, [value.name for value in wanted], inputs)
    fixed = [v.shape[0] for v in wanted if v.shape and isinstance(v.shape[0], int)]
    return batched(_caller(session), inputs, fixed[0] if fixed else BATCH, exact=bool(fixed))


def _caller(session: Any) -> Callable[[Tensors], Tensors]:
    wanted = session.get_inputs()
    names = [value.name for value in session.get_outputs()]

    def call(rows: Tensors) -> Tensors:
        fed = {value.name: _cast(rows[value.name], value.type) for value in wanted}
        return dict(zip(names, session.run(names, fed), strict=True))

    return call


def _session(path: Path, threads: int = 0) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _refusals() as error:
        raise SourceError(
            f"{path}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}"
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    """Every error of ONNX Runtime; they have no class in common."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (value for value in vars(state).values() if isinstance(value, type))
    return RuntimeError, *(kind for kind in kinds if issubclass(kind, Exception))


def _cast(value: Any, kind: str) -> Any:
    """`kind` is spelled `tensor(float)`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return value.astype(object) if name == "string" else value.astype(_DTYPES[name], copy=False)
