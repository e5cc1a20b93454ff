"""LiteRT: runs TFLite artifacts and TFLite sources on the CPU."""

from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Runtime, Tensors
from pipcook_deploy.runtimes.batches import batched


class LiteRtRuntime(Runtime):
    """Runs `.tflite` files, by their signature where they have one, one sample at a time.

    One at a time: some graphs hold reshapes with a batch of one although the file says that the
    batch is dynamic, and XNNPACK refuses to resize some others. Quantized inputs and outputs are
    converted by their scale and zero point.
    """

    name: ClassVar[str] = "litert"
    formats: ClassVar[tuple[str, ...]] = ("tflite",)

    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Run an artifact by its bindings."""
        keys = {b.name: b.tensor for b in artifact.inputs}
        results = _run(artifact.file, {keys[name]: value for name, value in inputs.items()}, None)
        return {b.name: results[b.tensor] for b in artifact.outputs}

    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """Run a source; its names are those of its signature, or of its graph."""
        return _run(model.path, inputs, model.signature)


def _run(path: Path, inputs: Tensors, signature: str | None) -> Tensors:
    interpreter = _open(path)
    wanted, given = _tables(interpreter, signature)
    missing = [name for name in wanted if name not in inputs]
    if missing:
        raise SourceError(f"{path}: no samples for the input {', '.join(missing)}")
    size = _fixed_batch(interpreter, wanted)

    def call(rows: Tensors) -> Tensors:
        for name, index in wanted.items():
            interpreter.resize_tensor_input(index, rows[name].shape)
        interpreter.allocate_tensors()
        details = {d["index"]: d for d in interpreter.get_input_details()}
        for name, index in wanted.items():
            interpreter.set_tensor(index, _quantized(rows[name], details[index]))
        interpreter.invoke()
        found = {d["index"]: d for d in interpreter.get_output_details()}
        return {n: _real(interpreter.get_tensor(i), found[i]) for n, i in given.items()}

    return batched(call, inputs, size, exact=True)


def _open(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_path=str(path), num_threads=1)
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


def _fixed_batch(interpreter: Any, wanted: dict[str, int]) -> int:
    for detail in interpreter.get_input_details():
        shape = detail["shape_signature"]
        if detail["index"] in wanted.values() and len(shape) and shape[0] > 0:
            return int(shape[0])
    return 1


def _quantized(value: Any, detail: dict[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    dtype = detail["dtype"]
    if np.issubdtype(dtype, np.integer) and value.dtype.kind == "f" and scale:
        limits = np.iinfo(dtype)
        return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(dtype)
    return np.ascontiguousarray(value, dtype=dtype)


def _real(value: Any, detail: dict[str, Any]) -> Any:
    import numpy as np

    scale, zero = detail["quantization"]
    if value.dtype.kind in "iu" and scale:
        return (value.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return value
