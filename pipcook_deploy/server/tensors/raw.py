"""Tensors as raw bytes, little-endian and row-major: the binary tensor extension, and gRPC's raw contents.

BOOL takes one byte an element; BYTES are, for each element, its length in four bytes and then itself.
Source: the binary data extension of Triton's HTTP/REST protocol.
"""

import math
import struct
import sys
from typing import Any

import numpy as np

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.datatypes import array_type
from pipcook_deploy.spec import TensorSpec


def from_raw(data: memoryview, tensor: TensorSpec, shape: tuple[int, ...]) -> Any:
    """The array that `data` holds; a view of it where it can be. 400 names the input and what is wrong."""
    count = math.prod(shape)
    if tensor.dtype == "string":
        return _strings(data, count, tensor.name).reshape(shape)
    dtype = _little(array_type(tensor.dtype))
    if data.nbytes != count * dtype.itemsize:
        raise HttpError(
            400,
            f"input {tensor.name!r}: shape {list(shape)} of {tensor.dtype} takes "
            f"{count * dtype.itemsize} bytes, not {data.nbytes}",
        )
    if dtype.kind == "b":
        return _booleans(data, tensor.name).reshape(shape)
    flat = np.frombuffer(data, dtype)
    return (flat if flat.flags.aligned else flat.copy()).reshape(shape)


def to_raw(value: Any) -> bytes:
    """The bytes of an array."""
    if value.dtype.kind in "OUS":
        return b"".join(_counted(item) for item in value.reshape(-1).tolist())
    little: bytes = value.astype(_little(value.dtype), copy=False).tobytes()
    return little


def _little(dtype: Any) -> Any:
    """Little-endian; numpy cannot swap the bytes of types that are not its own."""
    return dtype if sys.byteorder == "little" else dtype.newbyteorder("<")


def _booleans(data: memoryview, name: str) -> Any:
    flat = np.frombuffer(data, np.uint8)
    if flat.size and flat.max() > 1:
        raise HttpError(400, f"input {name!r}: a BOOL is a byte of 0 or 1")
    return flat.view(np.bool_)


def _strings(data: memoryview, count: int, name: str) -> Any:
    found: list[str] = []
    place = 0
    while place < data.nbytes and len(found) <= count:
        if place + 4 > data.nbytes:
            break
        (size,) = struct.unpack_from("<I", data, place)
        place += 4
        if place + size > data.nbytes:
            break
        found.append(text_of(bytes(data[place : place + size]), name))
        place += size
    if len(found) != count or place != data.nbytes:
        raise HttpError(
            400,
            f"input {name!r}: its bytes are not {count} elements, each with its length before it",
        )
    array = np.empty(count, dtype=object)
    array[:] = found
    return array


def text_of(data: bytes, name: str) -> str:
    """An element of BYTES as text; 400 names the input if it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HttpError(
            400, f"input {name!r}: the model takes text, and this is not UTF-8"
        ) from None


def _counted(item: Any) -> bytes:
    data = item if isinstance(item, bytes) else str(item).encode()
    return struct.pack("<I", len(data)) + data
