"""ONNX Runtime on the CPU, and on NVIDIA's GPUs."""

from typing import Any, ClassVar

import numpy as np

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import InferenceError

NO_CUDA = (
    "run: pip install 'onnxruntime-gpu[cuda,cudnn]', on a machine with a GPU of NVIDIA's, "
    "or serve by --engine onnxruntime"
)


class OnnxEngine:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    platform = "onnx_onnxv1"
    concurrent = True
    providers: ClassVar[tuple[str, ...]] = ("CPUExecutionProvider",)

    def __init__(self, artifact: Artifact, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingDependencyError(
                "the server needs onnxruntime", "run: pip install pipcook-deploy"
            ) from None
        self.threads = threads
        self._check_providers(onnxruntime)
        state = onnxruntime.capi.onnxruntime_pybind11_state
        self._refusals = (state.Fail, state.InvalidArgument, state.RuntimeException)
        # Of text the engine takes objects as they are.
        self._inputs = {
            b.name: (b.tensor, None if b.dtype in ("string", "bfloat16") else np.dtype(b.dtype))
            for b in artifact.inputs
        }
        self._outputs = [binding.tensor for binding in artifact.outputs]
        self._names = [binding.name for binding in artifact.outputs]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # refusals are answered, not printed
        # While a request is computed its threads spin a while for the next operator, which makes a
        # MobileNet a sixth faster. Without bounds they would take the cores from everything else.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
        failures = (*self._refusals, state.NoSuchFile, state.InvalidProtobuf, state.InvalidGraph)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(artifact.file), options, providers=list(self.providers)
            )
        except (*failures, state.NotImplemented) as error:
            raise ServerError(f"{artifact.file}: ONNX Runtime cannot load it: {error}") from error
        self._check_provider(self._session.get_providers())
        self._check_names(artifact)
        # Without the wrapper's own checks of names, which cost a tiny model a tenth of its time.
        self._run = getattr(self._session, "_sess", self._session).run
        if any("bfloat16" in tensor.type for tensor in self._tensors()):
            from pipcook_deploy.server.engines.ort_bfloat16 import BFloat16Session

            self._run = BFloat16Session(self._session).run

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names; numbers are cast to the artifact's element types."""
        feeds = {}
        for name, value in inputs.items():
            tensor, dtype = self._inputs[name]
            plain = dtype is None or value.dtype is dtype or value.dtype == dtype
            feeds[tensor] = value if plain else value.astype(dtype)
        try:
            results = self._run(self._outputs, feeds, None)
        except self._refusals as error:
            raise InferenceError(f"the model cannot compute this: {_reason(error)}") from error
        return dict(zip(self._names, results, strict=True))

    def _check_providers(self, onnxruntime: Any) -> None:
        """Raises `ServerError` where the first provider is not to be had: ONNX Runtime would take the next."""

    def _check_provider(self, used: list[str]) -> None:
        if used[0] != self.providers[0]:
            raise ServerError(
                f"ONNX Runtime does not run on {self.providers[0]} here, but on {used[0]}", NO_CUDA
            )

    def _check_names(self, artifact: Artifact) -> None:
        has = {tensor.name for tensor in self._tensors()}
        for binding in (*artifact.inputs, *artifact.outputs):
            if binding.tensor not in has:
                raise ServerError(f"{artifact.file}: has no tensor called {binding.tensor!r}")

    def _tensors(self) -> tuple[Any, ...]:
        return (*self._session.get_inputs(), *self._session.get_outputs())


class OnnxCudaEngine(OnnxEngine):
    """ONNX Runtime on an NVIDIA GPU. Not tested: no GPU was at hand."""

    name = "onnxruntime-cuda"
    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")

    def _check_providers(self, onnxruntime: Any) -> None:
        if self.providers[0] not in onnxruntime.get_available_providers():
            raise ServerError("ONNX Runtime finds no CUDA here", NO_CUDA)
        # CUDA's libraries, where they were installed as packages.
        onnxruntime.preload_dlls()


def _reason(error: Exception) -> str:
    """The engine's message without its own prefix and source positions."""
    line = str(error).strip().split("\n", 1)[0]
    return line.rsplit(" : ", 1)[-1][:300]
