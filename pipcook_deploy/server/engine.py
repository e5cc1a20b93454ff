"""What computes: one small interface, one implementation."""

import threading
from typing import Any, Protocol

import numpy as np

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import MissingDependencyError, ServerError, SourceError
from pipcook_deploy.runtime import Tensors


class InferenceError(Exception):
    """The engine refuses these tensors: the caller's mistake, worded for the caller."""


class Engine(Protocol):
    """Runs a model; called from several threads at once."""

    name: str
    platform: str  # as the Open Inference Protocol spells it: project_format

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names, for inputs by the spec's names. Raises `InferenceError`."""


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    platform = "onnx_onnxv1"

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


class LiteRtEngine:
    """LiteRT on the CPU: for TFLite files, which have no ONNX to be served from. One request at a time."""

    name = "litert"
    platform = "litert_tflite"

    def __init__(self, artifact: Artifact) -> None:
        from pipcook_deploy.runtimes.litert_runtime import LiteRtGraph

        signature = artifact.details.get("signature")
        name = signature if isinstance(signature, str) else None
        dtypes = {binding.tensor: binding.dtype for binding in artifact.outputs}
        try:
            self._graph = LiteRtGraph(artifact.file, name, dtypes)
        except ImportError:
            raise MissingDependencyError(
                "serving a TFLite file needs ai-edge-litert", "run: pip install ai-edge-litert"
            ) from None
        except SourceError as error:
            raise ServerError(error.message) from error
        self._artifact = artifact
        self._lock = threading.Lock()

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names; a batch is answered sample by sample."""
        from pipcook_deploy.runtimes.batches import batched

        tensors = {b.tensor: _as_bound(inputs[b.name], b) for b in self._artifact.inputs}
        size = self._graph.fixed_batch or 1
        try:
            with self._lock:
                results = batched(self._graph, tensors, size, exact=True)
        except SourceError as error:
            raise InferenceError(f"the model cannot compute this: {error.__cause__}") from error
        return {b.name: results[b.tensor] for b in self._artifact.outputs}


def make_engine(artifact: Artifact, threads: int = 0) -> Engine:
    """The engine of an artifact's format. Raises `ServerError` for a format that is not served."""
    if artifact.model_format == "tflite":
        return LiteRtEngine(artifact)
    return OnnxEngine(artifact, threads)


def _as_bound(value: Any, binding: Binding) -> Any:
    if binding.dtype == "string" or value.dtype.name == binding.dtype:
        return value
    return value.astype(np.dtype(binding.dtype))


def _reason(error: Exception) -> str:
    """The engine's message without its own prefix and source positions."""
    line = str(error).strip().split("\n", 1)[0]
    return line.rsplit(" : ", 1)[-1][:300]
