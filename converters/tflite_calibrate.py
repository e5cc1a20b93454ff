"""Calibration sets, and the ranges of a TFLite model's activations over one, in LiteRT."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import ConversionError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.saved_model_names import parameter_names
from pipcook_deploy.spec import ModelSpec, TensorSpec
from pipcook_deploy.tensors import load_tensors

Ranges = dict[int, tuple[float, float]]  # number of a tensor -> lowest and highest value


def load_calibration(path: Path | None, spec: ModelSpec) -> Tensors:
    """The inputs of `spec` from an .npz, an .npy (one input) or a folder that `save_tensors` wrote.

    Raises `ConversionError` where there is none, or not for this model.
    """
    if path is None:
        raise ConversionError(
            "tflite: int8 and int16x8 need a calibration set",
            "set tflite.calibration to an .npz with an array for each input",
        )
    samples = _loaded(path, [tensor.name for tensor in spec.inputs])
    return {tensor.name: _fitting(samples, tensor, path) for tensor in spec.inputs}


def _loaded(path: Path, names: list[str]) -> Tensors:
    import numpy as np

    if path.is_dir():
        return load_tensors(path)
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path}: is not a calibration set: {error}") from error
    if not isinstance(loaded, np.ndarray):
        return {name: loaded[name] for name in loaded.files}
    if len(names) != 1:
        raise ConversionError(
            f"{path}: is one array, the model has {len(names)} inputs",
            f"give an .npz with {', '.join(names)}",
        )
    return {names[0]: loaded}


def _fitting(samples: Tensors, spec: TensorSpec, path: Path) -> Any:
    if spec.name not in samples:
        raise ConversionError(
            f"{path}: has no array called {spec.name!r} (found: {', '.join(samples)})"
        )
    value = samples[spec.name].astype(spec.dtype)
    if len(value) == 0 or not spec.matches((spec.shape[0] or len(value), *value.shape[1:])):
        raise ConversionError(
            f"{path}: {spec.name}: has shape {list(value.shape)}, the model wants {list(spec.shape)}"
        )
    return value


def activation_ranges(data: bytes, samples: Tensors, signature: str | None, most: int) -> Ranges:
    """Lowest and highest value of each float activation of the main graph, over the first `most` samples.

    `samples` has the names of the signature, or of the spec. One sample at a time: some graphs take no more. Raises
    `ConversionError` where LiteRT cannot run the model.
    """
    interpreter = _interpreter(data)
    indices = _inputs(interpreter, signature)
    samples = named_inputs(samples, indices)
    count = min(most, len(next(iter(samples.values()))))
    found: Ranges = {}
    try:
        for row in range(count):
            rows = {indices[name]: value[row : row + 1] for name, value in samples.items()}
            _run(interpreter, rows)
            _widen(found, interpreter)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ConversionError(f"tflite: LiteRT cannot run the calibration set: {reason}") from error
    return found


def named_inputs(samples: Tensors, names: Iterable[str]) -> Tensors:
    """The samples under the names of the signature, which cannot hold every name that a spec can."""
    if set(names) == set(samples):
        return samples
    parameters = parameter_names(samples)
    return {parameters[name]: value for name, value in samples.items()}


def _interpreter(data: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Delegates fuse operators, whose tensors then hold nothing.
    return Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )


def _inputs(interpreter: Any, signature: str | None) -> dict[str, int]:
    signatures = interpreter._get_full_signature_list()
    chosen = signatures.get(signature or "serving_default") or next(iter(signatures.values()), None)
    if chosen is not None:
        return dict(chosen["inputs"])
    return {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}


def _run(interpreter: Any, rows: Mapping[int, Any]) -> None:
    import numpy as np

    details = {detail["index"]: detail for detail in interpreter.get_input_details()}
    stale = [i for i, value in rows.items() if tuple(details[i]["shape"]) != value.shape]
    for index in stale:
        interpreter.resize_tensor_input(index, rows[index].shape)
    interpreter.allocate_tensors()
    for index, value in rows.items():
        interpreter.set_tensor(index, np.ascontiguousarray(value, details[index]["dtype"]))
    interpreter.invoke()


def _widen(found: Ranges, interpreter: Any) -> None:
    import numpy as np

    for detail in interpreter.get_tensor_details():
        index = detail["index"]
        if detail["dtype"] is not np.float32:
            continue
        try:
            value = interpreter.get_tensor(index)
        except ValueError:  # a tensor that this run did not need
            continue
        if value.size and np.isfinite(value).all():
            low, high = found.get(index, (np.inf, -np.inf))
            found[index] = min(low, float(value.min())), max(high, float(value.max()))
