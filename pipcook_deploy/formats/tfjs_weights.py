"""The weights of a TF.js model: specs in `model.json`, values in one byte stream.

Format: tfjs-core `io/types.ts` (WeightsManifestEntry). Values are little-endian and lie one after the
other without padding. A string tensor is, per element, a uint32 length and that many bytes.

Quantized float32 weights:

- `float16`: stored as IEEE half;
- `uint8`, `uint16`: w = q * scale + min in float64, rounded to float32; the grid is `tfjs_grid`'s. A constant
  tensor has q = 0, scale = 1, min = the value. uint8 may use fewer than 256 of its numbers, which makes no
  file smaller until it is compressed: 16 levels take about half the bytes on the wire.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import ConversionError, SourceError
from pipcook_deploy.formats.tfjs_grid import affine

Array = NDArray[Any]
Spec = dict[str, Any]
PRECISIONS = ("float32", "float16", "uint16", "uint8")
LEVELS = 256  # of uint8
_BYTES = {"float32": 4, "float16": 2, "uint16": 2, "uint8": 1}

_STORED = {"float32": "<f4", "int32": "<i4", "bool": "|b1", "complex64": "<c8"}
_QUANTIZED = {"float16": "<f2", "uint16": "<u2", "uint8": "|u1"}


@dataclass(frozen=True)
class Weight:
    """A named tensor; `group` is "model", "optimizer" or not told."""

    name: str
    value: Array
    group: str | None = None


@dataclass(frozen=True)
class Encoded:
    """A weight as the file has it: its spec and its bytes. Written as it is, whatever the precision."""

    spec: Spec
    data: bytes


@dataclass(frozen=True)
class Storage:
    """How a float weight is stored; `levels` (2 to 256) are how many different numbers a uint8 one has."""

    precision: str = "float32"
    levels: int = LEVELS

    def __str__(self) -> str:
        return (
            self.precision if self.levels == LEVELS else f"{self.precision}, {self.levels} levels"
        )


def encode(
    weights: Iterable[Weight | Encoded], precision: Callable[[str], str | Storage]
) -> tuple[list[Spec], bytes]:
    """Specs and the byte stream; `precision` says by name how a float weight is stored.

    Quantized weights come last, in their order: a compressor takes 2 % less than for bytes of both kinds in
    turns.
    """
    encoded = [w if isinstance(w, Encoded) else encode_one(w, precision(w.name)) for w in weights]
    encoded.sort(key=lambda one: "quantization" in one.spec)
    return [w.spec for w in encoded], b"".join(w.data for w in encoded)


def encode_one(weight: Weight, precision: str | Storage = "float32") -> Encoded:
    """One weight. Integers, booleans and strings are stored as they are, whatever the precision.

    Raises `ConversionError` for a type that TF.js lacks, for int64 values beyond int32, and for floats
    that the precision cannot hold.
    """
    storage = precision if isinstance(precision, Storage) else Storage(precision)
    _check(storage)
    value, dtype = _storable(weight)
    spec: Spec = {"name": weight.name, "shape": list(value.shape), "dtype": dtype}
    if weight.group is not None:
        spec["group"] = weight.group
    if dtype == "string":
        return Encoded(spec, _string_bytes(value))
    if dtype != "float32" or storage.precision == "float32":
        return Encoded(spec, value.astype(_STORED[dtype]).tobytes())
    stored, quantization = _quantize(weight.name, value, storage)
    return Encoded(spec | {"quantization": quantization}, stored.tobytes())


def coarser(spec: Spec, wanted: Storage) -> bool:
    """Whether `wanted` would make a stored weight smaller.

    Not what widens quantized values, which would add bytes and no precision, nor what they are already.
    """
    if spec["dtype"] != "float32":
        return False
    stored = spec.get("quantization", {}).get("dtype", "float32")
    if wanted.precision == stored:
        return wanted.levels < LEVELS
    return _BYTES[wanted.precision] < _BYTES[stored]


def decode(spec: Spec, data: bytes) -> Array:
    """The value of one weight from its own bytes, dequantized; strings as an object array of bytes."""
    shape = tuple(spec["shape"])
    if spec["dtype"] == "string":
        return _strings(data, shape)
    quantization = spec.get("quantization")
    stored = np.frombuffer(data, stored_dtype(spec)).reshape(shape)
    if quantization is None or quantization["dtype"] == "float16":
        return stored.astype(np.dtype(spec["dtype"]))
    value: Array = stored.astype(np.float64) * quantization["scale"] + quantization["min"]
    if spec["dtype"] == "int32":
        return np.floor(value + 0.5).astype(np.int32)
    return value.astype(np.float32)


def stored_dtype(spec: Spec) -> np.dtype[Any]:
    """How the elements of a weight lie in the file. Raises `SourceError` for a combination TF.js lacks."""
    name, dtype, quantization = spec["name"], spec["dtype"], spec.get("quantization")
    if dtype not in _STORED:
        raise SourceError(f"weight {name!r} has the unknown dtype {dtype!r}")
    if quantization is None:
        return np.dtype(_STORED[dtype])
    if not isinstance(quantization, dict) or quantization.get("dtype") not in _QUANTIZED:
        raise SourceError(f"weight {name!r} has an unknown quantization: {quantization!r}")
    affine = quantization["dtype"] != "float16"
    if dtype not in (("float32", "int32") if affine else ("float32",)):
        raise SourceError(f"weight {name!r} of dtype {dtype} cannot be {quantization['dtype']}")
    if affine and not all(_is_number(quantization.get(key)) for key in ("scale", "min")):
        raise SourceError(f"weight {name!r} is quantized without a scale and a min")
    return np.dtype(_QUANTIZED[quantization["dtype"]])


def byte_size(spec: Spec) -> int:
    """Bytes of a weight that is not a string."""
    return prod(spec["shape"]) * stored_dtype(spec).itemsize


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _storable(weight: Weight) -> tuple[Array, str]:
    value = np.asarray(weight.value)
    kind = value.dtype.kind
    if kind in "OSUT":
        return value, "string"
    if kind == "b":
        return value, "bool"
    if kind in "iu":
        if value.size and (value.min() < -(2**31) or value.max() >= 2**31):
            raise ConversionError(
                f"weight {weight.name!r} holds {value.dtype} values beyond int32, all that TF.js has"
            )
        return value.astype(np.int32), "int32"
    if kind == "c":
        return value.astype(np.complex64), "complex64"
    if kind == "f" or value.dtype.name == "bfloat16":
        return value.astype(np.float32), "float32"
    raise ConversionError(f"weight {weight.name!r}: TF.js has no dtype {value.dtype}")


def _check(storage: Storage) -> None:
    if storage.precision not in PRECISIONS:
        raise ConversionError(
            f"there is no precision {storage.precision!r}", f"use {', '.join(PRECISIONS)}"
        )
    if not 2 <= storage.levels <= LEVELS:
        raise ConversionError(f"uint8 has 2 to {LEVELS} levels, not {storage.levels}")


def _quantize(name: str, value: Array, storage: Storage) -> tuple[Array, Spec]:
    precision = storage.precision
    if value.size and not np.isfinite(value).all():
        raise ConversionError(f"weight {name!r} holds NaN or infinity: it cannot be {precision}")
    if precision == "float16":
        if value.size and np.abs(value).max() >= 65520:  # rounds to infinity from here on
            raise ConversionError(
                f"weight {name!r} holds values beyond float16",
                f"keep it: set precision of {name!r} to float32",
            )
        return value.astype("<f2"), {"dtype": "float16", "original_dtype": "float32"}
    steps = storage.levels - 1 if precision == "uint8" else 65535
    stored, scale, low = affine(value.astype(np.float64), steps)
    details = {"dtype": precision, "min": low, "scale": scale, "original_dtype": "float32"}
    return stored.astype(_QUANTIZED[precision]), details


def _string_bytes(value: Array) -> bytes:
    texts = [t if isinstance(t, bytes) else str(t).encode() for t in value.ravel().tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _strings(data: bytes, shape: tuple[int, ...]) -> Array:
    texts, at = np.empty(prod(shape), dtype=object), 0
    for index in range(texts.size):
        size = int.from_bytes(data[at : at + 4], "little")
        texts[index] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return texts.reshape(shape)
