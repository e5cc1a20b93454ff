"""Evaluates the few operations that decide how often a loop runs and which branch is taken."""

from collections.abc import Callable, Sequence

import numpy as np

from pipcook_deploy.converters.tfjs.graph import Array, Node

MAX_ELEMENTS = 4096  # loop bounds and shapes, not weights

_NUMPY_TYPES = {
    "DT_FLOAT": np.float32, "DT_DOUBLE": np.float64, "DT_HALF": np.float16, "DT_INT32": np.int32,
    "DT_INT64": np.int64, "DT_BOOL": np.bool_, "DT_UINT8": np.uint8, "DT_INT8": np.int8,
}  # fmt: skip

Fold = Callable[..., Array]

_ELEMENTWISE: dict[str, Fold] = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply,
    "Maximum": np.maximum, "Minimum": np.minimum, "FloorDiv": np.floor_divide,
    "FloorMod": np.mod, "Neg": np.negative, "Less": np.less, "LessEqual": np.less_equal,
    "Greater": np.greater, "GreaterEqual": np.greater_equal, "Equal": np.equal,
    "NotEqual": np.not_equal, "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not, "SelectV2": np.where,
}  # fmt: skip


def fold(node: Node, inputs: Sequence[Array]) -> Array | None:
    """The value of a node whose inputs are known, or None for what is not evaluated here."""
    if any(value.size > MAX_ELEMENTS for value in inputs):
        return None
    if node.op in _ELEMENTWISE:
        return np.asarray(_ELEMENTWISE[node.op](*inputs))
    shape_only = _SHAPES.get(node.op)
    return None if shape_only is None else shape_only(node, *inputs)


def _cast(node: Node, value: Array) -> Array | None:
    dtype = _NUMPY_TYPES.get(node.dtype("DstT"))
    return None if dtype is None else value.astype(dtype)


def _pack(node: Node, *values: Array) -> Array:
    return np.stack(values, axis=node.integer("axis"))


def _concat(node: Node, *values: Array) -> Array:
    return np.concatenate(values[:-1], axis=int(values[-1]))


def _range(node: Node, start: Array, limit: Array, delta: Array) -> Array | None:
    values = np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)
    return values if values.size <= MAX_ELEMENTS else None


def _strided_slice(
    node: Node, value: Array, begin: Array, end: Array, stride: Array
) -> Array | None:
    masks = [node.integer(f"{name}_mask") for name in ("begin", "end", "shrink_axis")]
    if node.integer("ellipsis_mask") or node.integer("new_axis_mask"):
        return None
    key: list[int | slice] = []
    for axis, (first, last, step) in enumerate(zip(begin, end, stride, strict=True)):
        no_begin, no_end, shrink = (bool(mask >> axis & 1) for mask in masks)
        if shrink:
            key.append(int(first))
        else:
            key.append(slice(None if no_begin else first, None if no_end else last, step))
    return np.asarray(value[tuple(key)])


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduced(node: Node, value: Array, axis: Array) -> Array:
        axes = tuple(int(a) for a in np.atleast_1d(axis))
        result = function(value, axis=axes, keepdims=node.flag("keep_dims"))
        return np.asarray(result).astype(value.dtype)

    return reduced


_SHAPES: dict[str, Callable[..., Array | None]] = {
    "Identity": lambda node, value: value,
    "Cast": _cast,
    "Pack": _pack,
    "ConcatV2": _concat,
    "Range": _range,
    "StridedSlice": _strided_slice,
    "Reshape": lambda node, value, shape: value.reshape(shape),
    "Squeeze": lambda node, value: value.squeeze(tuple(node.integers("squeeze_dims")) or None),
    "ExpandDims": lambda node, value, axis: np.expand_dims(value, int(axis)),
    "Prod": _reduce(np.prod),
    "Max": _reduce(np.max),
    "Min": _reduce(np.min),
}
