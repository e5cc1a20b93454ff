"""One sample's tensors, by the preprocessing that the server runs too."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.source import BadSampleError
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.execute import Pipeline
from pipcook_deploy.spec import ModelSpec, TensorSpec

Array = NDArray[Any]


class Preparation:
    """Call it with a sample's inputs by name; the answer has the model's dtypes, without a batch axis.

    What a caller would send goes through the declared preprocessing: image bytes, uint8 pictures, texts, and
    lists of numbers. Other arrays are taken for the model's own tensors, as in training code.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.tensors = spec.inputs
        self.pipelines = {name: Pipeline(steps) for name, steps in spec.preprocessing.items()}

    def __call__(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        """Raises `BadSampleError` when the sample does not fit the model."""
        missing = [tensor.name for tensor in self.tensors if tensor.name not in inputs]
        if missing:
            raise BadSampleError(f"has no {missing[0]!r} (found: {', '.join(inputs) or 'nothing'})")
        return {tensor.name: self._tensor(tensor, inputs[tensor.name]) for tensor in self.tensors}

    def done(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        """Tensors that were prepared before, as they are."""
        return {tensor.name: np.asarray(inputs[tensor.name]) for tensor in self.tensors}

    def _tensor(self, tensor: TensorSpec, value: object) -> Array:
        pipeline = self.pipelines.get(tensor.name)
        if pipeline is not None and is_raw(value, pipeline.takes):
            try:
                return _fitted(tensor, pipeline(_as_sent(value, pipeline.takes)))
            except PreprocessingError as error:
                raise BadSampleError(error.message) from error
        if tensor.dtype == "string":
            return np.asarray(_text(value), dtype=object)
        return _fitted(tensor, _numbers(value))


def is_raw(value: object, takes: str) -> bool:
    """Whether a value is what a caller would send to a pipeline that takes `takes`."""
    if takes in ("encoded", "image"):
        picture = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3)
        return picture or (takes == "encoded" and isinstance(value, bytes | bytearray | memoryview))
    if takes == "text":
        return isinstance(value, str | bytes)
    return isinstance(value, list | tuple)


def _as_sent(value: object, takes: str) -> object:
    if takes == "text":
        return _text(value)
    if isinstance(value, np.ndarray) and value.ndim == 2:
        return value[..., np.newaxis]
    return value


def _text(value: object) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BadSampleError(f"is not UTF-8 text: {error}") from error
    return value


def _numbers(value: object) -> Array:
    if isinstance(value, str | bytes):
        raise BadSampleError("is text, but the model declares no preprocessing for text")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BadSampleError(f"is not an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise BadSampleError(f"is {array.dtype}, not numbers")
    return array


def _fitted(tensor: TensorSpec, array: Array) -> Array:
    wanted = TensorSpec(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape[1:])
    if not wanted.matches(array.shape) and wanted.matches((*array.shape, 1)):
        array = array[..., np.newaxis]
    if not wanted.matches(array.shape):
        raise BadSampleError(
            f"is {list(array.shape)}, the input {tensor.name!r} takes {list(wanted.shape)}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadSampleError("has a NaN or an infinity")
    dtype = np.dtype(tensor.dtype)
    if dtype.kind in "iu" and array.dtype.kind == "f" and (array != np.floor(array)).any():
        raise BadSampleError(f"has fractions, the input {tensor.name!r} takes {tensor.dtype}")
    return np.ascontiguousarray(array.astype(dtype)).reshape(array.shape)
