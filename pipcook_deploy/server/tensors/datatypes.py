"""Element types as the Open Inference Protocol spells them."""

from functools import cache
from typing import Any

import numpy as np

from pipcook_deploy.errors import MissingDependencyError

DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "string": "BYTES",
}  # fmt: skip
SPELLED = {
    np.dtype(name): spelled
    for name, spelled in DATATYPES.items()
    if name not in ("bfloat16", "string")
}  # of arrays: numpy makes a dtype's name anew each time, which takes longer than writing a small tensor
# The protocol gives them no JSON form: binary tensors and gRPC only.
NO_JSON = ("FP16", "BF16", "COMPLEX64")


def datatype(dtype: str) -> str:
    """As the protocol spells it."""
    return DATATYPES.get(dtype, dtype.upper())


def shape_json(shape: tuple[int | None, ...]) -> list[int]:
    """-1 for a dynamic axis."""
    return [-1 if size is None else size for size in shape]


def spelled(array: Any) -> str:
    """The element type of an array, as the protocol spells it; text of any kind is BYTES."""
    return SPELLED.get(array.dtype) or _unusual(array.dtype)


@cache
def array_type(dtype: str) -> np.dtype[Any]:
    """numpy's type for a tensor's elements; Python objects for text.

    Raises `MissingDependencyError` for bfloat16, which numpy itself does not have, without ml_dtypes.
    """
    if dtype != "bfloat16":
        return np.dtype(object if dtype == "string" else dtype)
    try:
        import ml_dtypes
    except ImportError:
        raise MissingDependencyError(
            "serving tensors of bfloat16 needs ml_dtypes", "run: pip install ml_dtypes"
        ) from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def _unusual(dtype: np.dtype[Any]) -> str:
    return "BYTES" if dtype.kind in "OUS" else datatype(dtype.name)
