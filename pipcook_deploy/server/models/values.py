"""One sample of one input, from what JSON can hold of it: numbers, texts, truth values, base64 of an image."""

import base64
import binascii
from typing import Any

import numpy as np

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.spec import TensorSpec

# JSON types that each kind of element accepts: true is not 1, 1.0 is not an integer.
ELEMENTS: dict[str, tuple[set[type], str]] = {
    "b": ({bool}, "true or false"),
    "i": ({int}, "whole numbers"),
    "u": ({int}, "whole numbers"),
    "f": ({int, float}, "numbers"),
    "O": ({str}, "texts"),
}
DEEPEST = 32  # dimensions that numpy has in every version


def image_bytes(value: object) -> bytes:
    """The file in base64, or in a `data:` URL. Nothing is ever fetched."""
    if not isinstance(value, str):
        raise PreprocessingError(f"an image in JSON is base64, not {_said(value)}")
    scheme, colon, _ = value[:64].partition(":")
    if colon and scheme.lower() != "data":
        raise PreprocessingError(
            "an image is sent, not linked: this server fetches no URL",
            "send the file itself, in base64 or as multipart/form-data",
        )
    if colon:
        head, comma, value = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise PreprocessingError("the data: URL is not base64: data:image/png;base64,...")
    try:
        # Line ends are how command line tools wrap it.
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise PreprocessingError("the image is not base64") from None


def plain(value: object, tensor: TensorSpec) -> Any:
    """The sample [...] of an input without preprocessing, in its element type.

    A lone value is taken for an input of one element. Raises `PreprocessingError` naming the input.
    """
    dtype = np.dtype(object if tensor.dtype == "string" else _dtype(tensor.dtype))
    if dtype.kind not in ELEMENTS:
        raise PreprocessingError(f"{tensor.name!r} takes {tensor.dtype}, which JSON cannot hold")
    allowed, wording = ELEMENTS[dtype.kind]
    shape, leaves = _flat(value, tensor.name)
    wrong = next((leaf for leaf in leaves if type(leaf) not in allowed), None)
    if wrong is not None or not set(map(type, leaves)) <= allowed:
        raise PreprocessingError(f"{tensor.name!r} takes {wording}, not {_said(wrong)}")
    array = _array(leaves, dtype, tensor.name).reshape(shape)
    return array.reshape(1) if shape == () and tensor.shape[1:] in ((1,), (None,)) else array


def _dtype(name: str) -> str:
    return "float32" if name == "bfloat16" else name


def _flat(value: object, name: str) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and elements of nested lists."""
    shape: list[int] = []
    leaves: list[Any] = [value]
    while leaves and isinstance(leaves[0], list):
        size = len(leaves[0])
        if any(not isinstance(row, list) or len(row) != size for row in leaves):
            raise PreprocessingError(f"{name!r}: its lists are not all equally long")
        if len(shape) == DEEPEST:
            raise PreprocessingError(f"{name!r}: its lists are nested too deeply")
        shape.append(size)
        leaves = [item for row in leaves for item in row]
    return tuple(shape), leaves


def _array(leaves: list[Any], dtype: "np.dtype[Any]", name: str) -> Any:
    try:
        if dtype.kind != "f":
            return np.array(leaves, dtype=dtype)
        exact = np.array(leaves, dtype=np.float64)
    except (OverflowError, ValueError) as error:
        raise PreprocessingError(f"{name!r}: {error}") from None
    with np.errstate(over="ignore"):
        array = exact.astype(dtype)
    if not np.isfinite(array).all():
        raise PreprocessingError(f"{name!r}: a number is too large for {dtype}")
    return array


def _said(value: object) -> str:
    """The JSON type of a value."""
    names = {
        type(None): "null",
        bool: "a truth value",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "a number")
