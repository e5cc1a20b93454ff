"""Runs declared preprocessing: one implementation for verification, command line and server."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.preprocess import decode as images
from pipcook_deploy.preprocess import pixels, resample, tokens
from pipcook_deploy.preprocess.decode import Limits
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.operations import Operation
from pipcook_deploy.preprocess.order import check

Array = NDArray[Any]
DEFAULT_LIMITS = Limits()

STEPS: dict[str, Callable[[Any, Any], Array]] = {
    "color": pixels.color,
    "resize": resample.resize,
    "center_crop": pixels.center_crop,
    "scale": pixels.scale,
    "normalize": pixels.normalize,
    "normalize_per_image": pixels.normalize_per_image,
    "layout": pixels.layout,
    "cast": pixels.cast,
    "tokenize": tokens.tokenize,
    "pad": tokens.pad,
}


class Pipeline:
    """Operations whose order has been checked; call it with what a caller sends."""

    def __init__(self, operations: Sequence[Operation], limits: Limits = DEFAULT_LIMITS) -> None:
        self.operations = tuple(operations)
        self.limits = limits
        self.takes = check(self.operations)

    def __call__(self, value: object) -> Array:
        """The tensor of one sample, without batch axis.

        `value`: image bytes, a pixel array [H, W, C], a text, or (nested) numbers. Numbers are float64
        until an operation says otherwise; a float64 result is rounded to float32.
        """
        if self.takes == "encoded":
            decoded = self._decoded(value)
            return _finished(self._run(decoded, self.operations[1:]))
        return _finished(self._run(self._start(value), self.operations))

    def _decoded(self, value: object) -> Array:
        operation = self.operations[0]
        assert operation.op == "decode"  # `check` saw it: nothing else takes encoded bytes
        if isinstance(value, bytes | bytearray | memoryview):
            return images.decode(operation, bytes(value), self.limits)
        if isinstance(value, np.ndarray):
            return images.channels(operation, value)
        raise PreprocessingError(f"an image is sent as bytes, not as {type(value).__name__}")

    def _start(self, value: object) -> Any:
        if self.takes == "text":
            if isinstance(value, str):
                return value
            raise PreprocessingError(f"a text is expected, not {type(value).__name__}")
        if not self.operations and isinstance(value, str | bytes):
            return np.asarray(value, dtype=object)  # a model that takes text as it is
        array = _numbers(value)
        if self.takes == "image" and (array.ndim != 3 or 0 in array.shape):
            raise PreprocessingError(
                f"an image of shape [height, width, channels] is expected, not {list(array.shape)}"
            )
        return array

    def _run(self, value: Any, operations: Sequence[Operation]) -> Array:
        for operation in operations:
            value = STEPS[operation.op](operation, value)
        return np.asarray(value)


def prepare(
    operations: Sequence[Operation], value: object, limits: Limits = DEFAULT_LIMITS
) -> Array:
    """The tensor of one sample; `PreprocessingError` says what does not fit."""
    return Pipeline(operations, limits)(value)


def prepare_batch(
    operations: Sequence[Operation], values: Sequence[object], limits: Limits = DEFAULT_LIMITS
) -> Array:
    """Samples stacked along a new first axis; they must come out with one shape."""
    pipeline = Pipeline(operations, limits)
    return stack([pipeline(value) for value in values])


def stack(samples: Sequence[Array]) -> Array:
    """[N, ...]; `PreprocessingError` if the samples differ in shape."""
    shapes = sorted({sample.shape for sample in samples})
    if len(shapes) != 1:
        raise PreprocessingError(
            f"the samples have {len(shapes)} different shapes {[list(shape) for shape in shapes]}",
            "declare a resize or pad, or send them one by one",
        )
    return np.stack(list(samples))


def _numbers(value: object) -> Array:
    """Arrays as they are, other numbers as float64; text that looks like a number is not one."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise PreprocessingError(f"numbers are expected: {error}") from None
    if array.dtype.kind not in ("buif" if isinstance(value, np.ndarray) else "uif") and array.size:
        raise PreprocessingError("numbers are expected, not texts, nulls, truth values or objects")
    return array if isinstance(value, np.ndarray) else array.astype(np.float64)


def _finished(array: Array) -> Array:
    if array.dtype == np.float64:
        array = pixels.as_float32(array)
    return np.ascontiguousarray(array).reshape(array.shape)
