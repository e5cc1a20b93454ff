"""LiteRT on the CPU, for TFLite files."""

import threading

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import MissingDependencyError, ServerError, SourceError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.base import as_bound
from pipcook_deploy.server.errors import InferenceError


class LiteRtEngine:
    """LiteRT on the CPU; one request at a time."""

    name = "litert"
    platform = "litert_tflite"
    concurrent = False

    def __init__(self, artifact: Artifact, threads: int = 0) -> None:
        from pipcook_deploy.runtimes.litert_runtime import LiteRtGraph

        self.threads = threads
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

        tensors = {b.tensor: as_bound(inputs[b.name], b) for b in self._artifact.inputs}
        size = self._graph.fixed_batch or 1
        try:
            with self._lock:
                results = batched(self._graph, tensors, size, exact=True)
        except SourceError as error:
            raise InferenceError(f"the model cannot compute this: {error.__cause__}") from error
        return {b.name: results[b.tensor] for b in self._artifact.outputs}
