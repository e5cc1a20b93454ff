"""What computes: one small interface, one implementation."""

from typing import Any, Protocol

import numpy as np

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.runtime import Tensors


class InferenceError(Exception):
    """The engine refuses these tensors: the caller's mistake, worded for the caller."""


class Engine(Protocol):
    """Runs a model; called from several threads at once."""

    name: str

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names, for inputs by the spec's names. Raises `InferenceError`."""


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError(
                "the server needs onnxruntime", "run: pip install pipcook-deploy"
            ) from None
        if artifact.model_format != "onnx":
            raise ServerError(
                f"the server runs onnx artifacts, not {artifact.model_format}",
                "convert first: pipcook-deploy convert MODEL --to onnx --out DIR",
            )
        state = onnxruntime.capi.onnxruntime_pybind11_state
        self._refusals = (state.Fail, state.InvalidArgument, state.RuntimeException)
        self._inputs = {binding.name: binding for binding in artifact.inputs}
        self._outputs = artifact.outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # refusals are answered, not printed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        failures = (*self._refusals, state.NoSuchFile, state.InvalidProtobuf, state.InvalidGraph)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(artifact.file), options, providers=["CPUExecutionProvider"]
            )
        except (*failures, state.NotImplemented) as error:
            raise ServerError(f"{artifact.file}: ONNX Runtime cannot load it: {error}") from error
        self._check_names(artifact)

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names; numbers are cast to the artifact's element types."""
        feeds = {}
        for name, value in inputs.items():
            binding = self._inputs[name]
            feeds[binding.tensor] = _as_bound(value, binding)
        try:
            results = self._session.run([b.tensor for b in self._outputs], feeds)
        except self._refusals as error:
            raise InferenceError(f"the model cannot compute this: {_reason(error)}") from error
        return {b.name: value for b, value in zip(self._outputs, results, strict=True)}

    def _check_names(self, artifact: Artifact) -> None:
        has = {t.name for t in (*self._session.get_inputs(), *self._session.get_outputs())}
        for binding in (*artifact.inputs, *artifact.outputs):
            if binding.tensor not in has:
                raise ServerError(f"{artifact.file}: has no tensor called {binding.tensor!r}")


def _as_bound(value: Any, binding: Binding) -> Any:
    if binding.dtype == "string" or value.dtype.name == binding.dtype:
        return value
    return value.astype(np.dtype(binding.dtype))


def _reason(error: Exception) -> str:
    """The engine's message without its own prefix and source positions."""
    line = str(error).strip().split("\n", 1)[0]
    return line.rsplit(" : ", 1)[-1][:300]
