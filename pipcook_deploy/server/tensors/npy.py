"""NumPy's .npy files, numbers only. Source: NEP 1, versions 1.0 to 3.0 of the format.

numpy's own reader allocates what a header announces before it looks at the data.
"""

import math
import re
from typing import Any

import numpy as np

from pipcook_deploy.server.errors import HttpError

MAGIC = b"\x93NUMPY"
# As numpy writes it: a Python literal whose keys are sorted.
HEADER = re.compile(
    r"\{'descr': '([<>|=][biuf]\d{1,2})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,12}(?:, ?|(?=\))))*)\),? ?\}\s*",
)
DEEPEST = 32


def read_npy(data: bytes) -> Any:
    """The array; 400 for anything else."""
    wide = data[6:7] in (b"\x02", b"\x03")
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if data[:6] != MAGIC or data[6:7] not in (b"\x01", b"\x02", b"\x03") or length > 10_000:
        raise HttpError(400, "the body is no .npy file")
    match = HEADER.fullmatch(data[start : start + length].decode("latin-1"))
    if match is None:
        raise HttpError(400, "the .npy file has no array of numbers")
    try:
        dtype = np.dtype(match[1])
    except TypeError:
        raise HttpError(400, f"the .npy file has elements of type {match[1]}") from None
    shape = [int(size) for size in match[3].replace(" ", "").split(",") if size]
    body = memoryview(data)[start + length :]
    if len(shape) > DEEPEST or math.prod(shape) * dtype.itemsize != body.nbytes:
        raise HttpError(
            400, f"the .npy file says shape {shape}, but has {body.nbytes} bytes of data"
        )
    if dtype.kind == "b" and body.nbytes and max(body) > 1:
        raise HttpError(400, "the .npy file has truth values that are not 0 or 1")
    flat = np.frombuffer(body, dtype)
    return flat.reshape(shape[::-1]).T if match[2] == "True" else flat.reshape(shape)
