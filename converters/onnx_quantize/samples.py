"""The calibration set: an .npz with an array for each input, or an .npy for the only one."""

from pathlib import Path
from typing import Any

from pipcook_deploy.errors import ConversionError
from pipcook_deploy.spec import TensorSpec


def read_calibration(
    path: Path | None, inputs: tuple[TensorSpec, ...], most: int
) -> dict[str, Any]:
    """At most `most` samples by input name. Raises `ConversionError` naming the file and what does not fit."""
    if path is None:
        raise ConversionError(
            "onnx: int8 needs a calibration set",
            "set onnx.calibration to an .npz with an array for each input",
        )
    arrays = _arrays(path, inputs)
    return {spec.name: _fitting(arrays, spec, path)[:most] for spec in inputs}


def _arrays(path: Path, inputs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            return {name: loaded[name] for name in loaded.files}
    except (OSError, EOFError, ValueError) as error:
        raise ConversionError(f"{path}: is not a calibration set: {error}") from error
    if len(inputs) != 1:
        raise ConversionError(
            f"{path}: is one array, the model has {len(inputs)} inputs",
            f"give an .npz with {', '.join(spec.name for spec in inputs)}",
        )
    return {inputs[0].name: loaded}


def _fitting(arrays: dict[str, Any], spec: TensorSpec, path: Path) -> Any:
    if spec.name not in arrays:
        raise ConversionError(
            f"{path}: has no array called {spec.name!r} (found: {', '.join(arrays)})"
        )
    value = arrays[spec.name]
    if spec.dtype != "string":
        value = value.astype(spec.dtype)
    if len(value) == 0 or not spec.matches((spec.shape[0] or len(value), *value.shape[1:])):
        raise ConversionError(
            f"{path}: {spec.name}: has shape {list(value.shape)}, the model wants {list(spec.shape)}"
        )
    return value
