"""LiteRT on the CPU, for TFLite files."""

import threading
from typing import Any

import numpy as np

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import MissingDependencyError, ServerError, SourceError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.base import as_bound
from pipcook_deploy.server.engines.cpu import cores
from pipcook_deploy.server.errors import InferenceError

KEPT = 4  # interpreters, each resized for other batch sizes: changing the size costs as much as a small model


class LiteRtEngine:
    """LiteRT on the CPU; one request at a time: its Python binding keeps the interpreter lock.

    A batch is computed at once where the file answers it as it answers its samples, and else one by one.
    """

    name = "litert"
    platform = "litert_tflite"
    concurrent = False

    def __init__(self, artifact: Artifact, threads: int = 0) -> None:
        self.threads = threads or cores()
        self._artifact = artifact
        self._lock = threading.Lock()
        self._kept: dict[int, Any] = {}
        self._together: bool | None = None  # not tried yet
        try:
            first = self._open()
        except ImportError:
            raise MissingDependencyError(
                "serving a TFLite file needs ai-edge-litert", "run: pip install ai-edge-litert"
            ) from None
        except SourceError as error:
            raise ServerError(error.message) from error
        self._fixed = first.fixed_batch
        self._check_names(first)
        self._kept[self._fixed or 1] = first

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names."""
        bound = self._artifact.inputs
        tensors = {b.tensor: as_bound(inputs[b.name], b) for b in bound}
        try:
            with self._lock:
                results = self._answer(tensors, _rows(tensors))
        except SourceError as error:
            raise InferenceError(f"the model cannot compute this: {error.__cause__}") from error
        return {b.name: results[b.tensor] for b in self._artifact.outputs}

    def _answer(self, tensors: Tensors, rows: int) -> Tensors:
        from pipcook_deploy.runtimes.batches import batched

        if self._fixed is not None:
            return batched(self._graph(self._fixed), tensors, self._fixed, exact=True)
        if rows > 1 and self._together is None:
            self._together = self._agrees(tensors, rows)
        if rows > 1 and not self._together:
            return batched(self._graph(1), tensors, 1)
        results: Tensors = self._graph(rows)(tensors)
        return results

    def _agrees(self, tensors: Tensors, rows: int) -> bool:
        """Whether a batch is answered like its first and last sample; a graph may hold a batch of one."""
        ends = [{k: v[i : i + 1] for k, v in tensors.items()} for i in (0, rows - 1)]
        singly = [
            self._graph(1)(end) for end in ends
        ]  # what is wrong with the request is said here
        try:
            together = self._graph(rows)(tensors)
        except SourceError:
            return False
        for row, alone in zip((0, rows - 1), singly, strict=True):
            for name, value in alone.items():
                answer = together[name]
                if answer.shape != (rows, *value.shape[1:]):
                    return False
                if not np.allclose(answer[row : row + 1], value, 1e-5, 1e-6, equal_nan=True):
                    return False
        return True

    def _graph(self, rows: int) -> Any:
        """An interpreter of that batch size: the last one is resized for what is asked for rarely."""
        if rows not in self._kept:
            if len(self._kept) < KEPT:
                self._kept[rows] = self._open()
            else:
                self._kept[rows] = self._kept.pop(next(reversed(self._kept)))
        return self._kept[rows]

    def _open(self) -> Any:
        from pipcook_deploy.runtimes.litert_runtime import LiteRtGraph

        signature = self._artifact.details.get("signature")
        name = signature if isinstance(signature, str) else None
        dtypes = {binding.tensor: binding.dtype for binding in self._artifact.outputs}
        return LiteRtGraph(self._artifact.file, name, dtypes, self.threads)

    def _check_names(self, graph: Any) -> None:
        pairs = ((self._artifact.inputs, graph.inputs), (self._artifact.outputs, graph.outputs))
        for bindings, has in pairs:
            for binding in bindings:
                if binding.tensor not in has:
                    raise ServerError(
                        f"{self._artifact.file}: has no tensor called {binding.tensor!r}"
                    )


def _rows(tensors: Tensors) -> int:
    """The batch size; 1 where inputs have none in common."""
    sizes = {len(value) if value.ndim else 0 for value in tensors.values()}
    return sizes.pop() if len(sizes) == 1 else 1
