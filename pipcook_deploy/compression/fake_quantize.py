"""Weights as they come back from a file that keeps few bits of each."""

from typing import Any

import numpy as np

from pipcook_deploy.compression.keras_layers import Array, Kernel


def fake_quantize(weights: Array, bits: int) -> Array:
    """As TF.js stores a tensor: one scale and offset for all of it, 0 on the grid (formats/tfjs_weights)."""
    levels = 2**bits - 1
    value = weights.astype(np.float64)
    low, high = float(value.min()), float(value.max())
    scale = (high - low) / levels
    if scale == 0:
        return weights
    if low <= 0 <= high:
        low = -round(-low / scale) * scale
    grid = np.clip(np.rint((value - low) / scale), 0, levels)
    found: Array = (grid * scale + low).astype(weights.dtype)
    return found


def folded_scale(kernel: Kernel, scale: Array) -> Array:
    """The factors of a following batch norm [channels] in a shape that multiplies the kernel."""
    shape = kernel.shape
    if kernel.kind.endswith("Transpose"):
        return scale.reshape(-1, 1)  # [h, w, out, in]
    if kernel.kind.startswith("DepthwiseConv"):
        return scale.reshape(shape[-2:])  # [h, w, in, multiplier]: output channels in this order
    return scale


def quantize_folded(kernel: Kernel, value: Array, bits: int, scale: Any | None) -> Array:
    """`value` quantized as it is written: converters fold a following batch norm into it."""
    if scale is None:
        return fake_quantize(value, bits)
    factors = folded_scale(kernel, scale)
    safe = np.where(np.abs(factors) > 0, factors, 1)
    written = fake_quantize((value * factors).astype(np.float32), bits)
    return np.where(factors == 0, value, written / safe).astype(value.dtype)
