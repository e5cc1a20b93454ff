"""Scales and zero points: real value = scale * (integer - zero point)."""

from dataclasses import dataclass
from typing import Any

WEIGHT_TOP = 127  # symmetric: zero is zero, and -128 is not used
BIAS_TOP = 2**30  # half of int32, so that sums have room too


@dataclass(frozen=True)
class Quantization:
    """Of an activation: u8."""

    scale: float
    zero: int


def activation(low: float, high: float, symmetric: bool) -> Quantization:
    """Scale and zero point for values between `low` and `high`; zero is always exact."""
    import numpy as np

    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        top = max(-low, high)
        return Quantization(_scale(top / 127), 128)
    scale = _scale((high - low) / 255)
    return Quantization(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def _scale(value: float) -> float:
    import numpy as np

    # A scale below float32's normal numbers would be flushed to zero.
    return float(np.float32(value)) if value > 1e-30 else 1.0


def weight_scales(weight: Any, axis: int | None, bias: Any = None, input_scale: float = 1) -> Any:
    """float32: one per channel of `axis`, or one for all.

    Scales are made larger where the bias, an int32 in units of the weight's scale times the input's, would not
    fit.
    """
    import numpy as np

    if axis is None:
        top = np.abs(weight).max(initial=0).reshape(())
    else:
        others = tuple(n for n in range(weight.ndim) if n != axis % weight.ndim)
        top = np.abs(weight).max(axis=others, initial=0)
    scales = np.where(top > 1e-30, top / WEIGHT_TOP, 1.0)
    if bias is not None:
        needed = np.abs(bias) / (BIAS_TOP * input_scale)
        scales = np.maximum(scales, needed if axis is not None else needed.max(initial=0))
    return scales.astype(np.float32)


def to_int8(weight: Any, scales: Any, axis: int | None) -> Any:
    """Nearest integers, -127 to 127; zero stays zero."""
    import numpy as np

    shaped = along(scales, weight.ndim, axis)
    return np.clip(np.rint(weight / shaped), -WEIGHT_TOP, WEIGHT_TOP).astype(np.int8)


def along(scales: Any, rank: int, axis: int | None) -> Any:
    """Scales in a shape that broadcasts along `axis`."""
    if axis is None:
        return scales
    shape = [1] * rank
    shape[axis] = -1
    return scales.reshape(shape)
