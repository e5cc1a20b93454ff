"""LiteRT: runs TFLite artifacts and TFLite sources on the CPU."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.runtimes.batches import BATCH, batched
from pipcook_deploy.runtimes.named import check_inputs, native_inputs, spec_outputs


class LiteRtRuntime(Runtime):
    """Runs `.tflite` files, by their signature where they have one.

    Many samples at once where that gives what one at a time gives: some graphs hold reshapes with a batch
    of one although the file says that the batch is dynamic, and XNNPACK refuses to resize some others.
    Quantized inputs and outputs are converted by their scale and zero point where the interface is of
    floats.
    """

    name: ClassVar[str] = "litert"
    formats: ClassVar[tuple[str, ...]] = ("tflite",)

    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Run an artifact by its bindings."""
        results = run_file(
            artifact.file,
            native_inputs(artifact, inputs),
            _signature(artifact),
            {b.tensor: b.dtype for b in artifact.outputs},
        )
        return spec_outputs(artifact, results)

    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """Run a source; its names are those of its signature, or of its graph."""
        dtypes = {spec.name: spec.dtype for spec in model.spec.outputs}
        return run_file(model.path, inputs, model.signature, dtypes)

    def session(self, artifact: Artifact, threads: int) -> Callable[[Tensors], Tensors]:
        """One interpreter; a batch that the model does not take goes through it in parts."""
        signature, dtypes = _signature(artifact), {b.tensor: b.dtype for b in artifact.outputs}
        graph = LiteRtGraph(artifact.file, signature, dtypes, threads)
        sizes: dict[int, int] = {}

        def answer(inputs: Tensors) -> Tensors:
            rows = native_inputs(artifact, inputs)
            count = len(next(iter(rows.values())))
            if count not in sizes:
                sizes[count] = _batch(graph, artifact.file, signature, dtypes, rows, count)
            size = sizes[count]
            results = graph(rows) if size == count else batched(graph, rows, size, exact=True)
            return spec_outputs(artifact, results)

        return answer


def run_file(
    path: Path, inputs: Tensors, signature: str | None, dtypes: Mapping[str, str]
) -> Tensors:
    """Answer any number of samples, by the names of the signature. `dtypes` are those of the interface."""
    graph = LiteRtGraph(path, signature, dtypes)
    check_inputs(path, graph.inputs, inputs)
    size = _batch(graph, path, signature, dtypes, inputs, BATCH)
    return batched(graph, inputs, size, exact=True)


def _signature(artifact: Artifact) -> str | None:
    signature = artifact.details.get("signature")
    return signature if isinstance(signature, str) else None


def _batch(
    graph: "LiteRtGraph",
    path: Path,
    signature: str | None,
    dtypes: Mapping[str, str],
    inputs: Tensors,
    most: int,
) -> int:
    """How many samples at once: what the file prescribes, or `most`, or one."""
    if graph.fixed_batch is not None:
        return graph.fixed_batch
    count = min(most, len(next(iter(inputs.values()))))
    return count if _takes_batches(path, signature, dtypes, inputs, count) else 1


class LiteRtGraph:
    """One interpreter: call it with inputs by name, all of one batch size."""

    def __init__(
        self, path: Path, signature: str | None, dtypes: Mapping[str, str], threads: int = 1
    ) -> None:
        self._path = path
        self._interpreter = _open(path, threads)
        self.inputs, self.outputs = _tables(self._interpreter, signature)
        self._dtypes = dtypes
        self._shapes: dict[str, tuple[int, ...]] = {}
        # Types and scales, which no change of shape changes.
        self._takes = {d["index"]: d for d in self._interpreter.get_input_details()}
        self._gives = {d["index"]: d for d in self._interpreter.get_output_details()}

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file prescribes."""
        for index in self.inputs.values():
            shape = self._takes[index]["shape_signature"]
            if len(shape) and shape[0] > 0:
                return int(shape[0])
        return None

    def __call__(self, rows: Tensors) -> Tensors:
        try:
            return self._answer(rows)
        except (RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise SourceError(f"{self._path}: LiteRT cannot run it: {reason}") from error

    def _answer(self, rows: Tensors) -> Tensors:
        interpreter = self._interpreter
        shapes = {name: rows[name].shape for name in self.inputs}
        if shapes != self._shapes:
            self._shapes = {}  # of nothing, should one of them be refused
            for name, index in self.inputs.items():
                interpreter.resize_tensor_input(index, shapes[name])
            interpreter.allocate_tensors()
            self._shapes = shapes
        for name, index in self.inputs.items():
            interpreter.set_tensor(index, _quantized(rows[name], self._takes[index]))
        interpreter.invoke()
        return {
            name: _real(interpreter.get_tensor(index), self._gives[index], self._dtypes.get(name))
            for name, index in self.outputs.items()
        }


def _takes_batches(
    path: Path, signature: str | None, dtypes: Mapping[str, str], inputs: Tensors, count: int
) -> bool:
    """Whether `count` samples are answered like one by one (the first and last of them are tried)."""
    import numpy as np

    if count == 1:
        return True
    single, many = (LiteRtGraph(path, signature, dtypes) for _ in range(2))
    try:
        together = many({name: value[:count] for name, value in inputs.items()})
    except SourceError:
        return False
    for row in {0, count - 1}:
        alone = single({name: value[row : row + 1] for name, value in inputs.items()})
        for name, value in alone.items():
            if together[name].shape != (count, *value.shape[1:]):
                return False
            if not np.allclose(together[name][row : row + 1], value, 1e-5, 1e-6, equal_nan=True):
                return False
    return True


def _open(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_path=str(path), num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise SourceError(f"{path}: LiteRT cannot open it: {str(error).splitlines()[0]}") from error


def _tables(interpreter: Any, signature: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """Tensor indices of inputs and outputs by name."""
    inputs = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    outputs = {d["name"]: d["index"] for d in interpreter.get_output_details()}
    signatures = interpreter._get_full_signature_list()
    name = signature or ("serving_default" if "serving_default" in signatures else None)
    chosen = signatures.get(name) or next(iter(signatures.values()), None)
    if chosen is None:
        return inputs, outputs
    return dict(chosen["inputs"]), dict(chosen["outputs"])


def _quantized(value: Any, detail: dict[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    dtype = detail["dtype"]
    if value.dtype.kind in "OU":
        texts = [str(item).encode() for item in value.ravel()]
        return np.array(texts, dtype=np.bytes_).reshape(value.shape)
    if np.issubdtype(dtype, np.integer) and value.dtype.kind == "f" and scale:
        limits = np.iinfo(dtype)
        return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(dtype)
    return np.ascontiguousarray(value, dtype=dtype)


def _real(value: Any, detail: dict[str, Any], dtype: str | None) -> Any:
    """As the interface has it: whole numbers stay what they are where it is of whole numbers."""
    import numpy as np

    scale, zero = detail["quantization"]
    floats = dtype is None or dtype.startswith("float")
    if floats and value.dtype.kind in "iu" and scale:
        return (value.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return value
