"""OpenVINO on the CPU, for ONNX files: float32 as float32, int8 as int8."""

import threading
from typing import Any

import numpy as np

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import InferenceError

Requests = list[Any]  # infer requests that no thread uses


class OpenVinoEngine:
    """One compiled model for single samples, and one for all other shapes, made when they first come.

    A model that is compiled for one shape is some 5 to 10 % faster, and one of dynamic shapes is slow whenever
    the shape changes; a compiled model for each batch size would hold the weights as many times.
    """

    name = "openvino"
    platform = "openvino_onnx"
    concurrent = True

    def __init__(self, artifact: Artifact, threads: int = 0, streams: int = 1) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingDependencyError(
                "the engine openvino is not installed",
                "run: pip install 'pipcook-deploy[openvino]'",
            ) from None
        self.threads = threads
        self._artifact = artifact
        self._openvino = openvino
        # By itself OpenVINO computes in bfloat16 where the CPU can.
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": streams,
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads * streams
        self._core = openvino.Core()
        self._compiling = threading.Lock()
        self._inputs = [(b.name, b.tensor, _dtype(b.dtype, artifact)) for b in artifact.inputs]
        self._outputs = [(b.name, b.tensor, _dtype(b.dtype, artifact)) for b in artifact.outputs]
        try:
            single = self._single()
            self._any = None if single else self._compiled(self._read())
        except RuntimeError as error:
            raise ServerError(
                f"{artifact.file}: OpenVINO cannot load it: {_reason(error)}",
                "serve it by another engine: --engine onnxruntime",
            ) from error
        self._shapes: list[tuple[int, ...]] = single[0] if single else []
        self._alone = single[1] if single else None

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names; numbers are cast to the artifact's element types."""
        arrays = []
        for name, tensor, dtype in self._inputs:
            value = inputs[name]
            if not (value.dtype == dtype and value.flags.c_contiguous):
                value = np.ascontiguousarray(value, dtype).reshape(value.shape)
            arrays.append((tensor, value))
        alone = self._alone is not None and [a.shape for _, a in arrays] == self._shapes
        try:
            model = self._alone if alone else self._any or self._compile_any()
            return self._infer(model, arrays)
        except RuntimeError as error:
            raise InferenceError(f"the model cannot compute this: {_reason(error)}") from error

    def _infer(self, model: Any, arrays: list[tuple[str, Any]]) -> Tensors:
        compiled, idle = model
        try:
            request = (
                idle.pop()
            )  # atomic, as is `append`: a request belongs to one thread at a time
        except IndexError:
            request = compiled.create_infer_request()
        tensor_of = self._openvino.Tensor
        for tensor, array in arrays:
            # A view of a request's body cannot be written to, and OpenVINO shares nothing else.
            request.set_tensor(tensor, tensor_of(array, shared_memory=array.flags.writeable))
        request.infer()
        outputs = {
            name: request.get_tensor(tensor).data.copy() for name, tensor, _ in self._outputs
        }
        idle.append(request)
        return outputs

    def _single(self) -> tuple[list[tuple[int, ...]], tuple[Any, Requests]] | None:
        """Compiled for one sample, if the batch size is all that the model leaves open."""
        model = self._read()
        shapes = {}
        for binding in self._artifact.inputs:
            partial = model.input(binding.tensor).partial_shape
            if partial.rank.is_dynamic:
                return None
            sizes = [None if d.is_dynamic else d.get_length() for d in partial]
            if None in sizes[1:]:
                return None
            shapes[binding.tensor] = [size or 1 for size in sizes]
        try:
            model.reshape(shapes)
            compiled = self._compiled(model)
        except RuntimeError:
            return None  # the graph takes no other batch size than a hidden one
        return [tuple(shapes[b.tensor]) for b in self._artifact.inputs], compiled

    def _compile_any(self) -> tuple[Any, Requests]:
        with self._compiling:
            if self._any is None:
                self._any = self._compiled(self._read())
            return self._any

    def _read(self) -> Any:
        model = self._core.read_model(str(self._artifact.file))
        names = {name for port in (*model.inputs, *model.outputs) for name in port.get_names()}
        for binding in (*self._artifact.inputs, *self._artifact.outputs):
            if binding.tensor not in names:
                raise ServerError(f"{self._artifact.file}: has no tensor called {binding.tensor!r}")
        return model

    def _compiled(self, model: Any) -> tuple[Any, Requests]:
        return self._core.compile_model(model, "CPU", self._settings), []


def _dtype(name: str, artifact: Artifact) -> Any:
    if name in ("string", "bfloat16"):
        raise ServerError(
            f"{artifact.file}: OpenVINO takes no tensors of {name} here",
            "serve it by another engine: --engine onnxruntime",
        )
    return np.dtype(name)


def _reason(error: RuntimeError) -> str:
    from pipcook_deploy.runtimes.openvino_runtime import first_words

    return first_words(error)
