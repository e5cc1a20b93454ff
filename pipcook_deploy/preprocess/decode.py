"""Encoded image bytes -> uint8 RGB or RGBA pixels, with limits; every odd file has a stated answer.

Palette: expanded. 16 bits a channel: the high byte. CMYK: (255-K) - muldiv(C, 255-K), by Pillow. Animated:
the first frame. Colour profiles and gamma are ignored. Truncated or damaged: an error, never a half image.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.operations import Decode
from pipcook_deploy.preprocess.pixels import composite, grey

if TYPE_CHECKING:
    from PIL.Image import Image

Array = NDArray[Any]
Result = TypeVar("Result")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# What Pillow's decoders raise on damaged files.
BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
    NotImplementedError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
ORIENTATION = 0x0112  # EXIF tag: 1..8


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    max_pixels: int = 50_000_000


def decode(operation: Decode, data: bytes, limits: Limits) -> Array:
    """uint8 [H, W, 3], or [H, W, 1] for `grey`."""
    return channels(operation, _pixels(data, operation.exif, limits))


def channels(operation: Decode, pixels: Array) -> Array:
    """uint8 [H, W, 1|3|4] -> the channels that the operation declares."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise PreprocessingError(
            f"decode takes encoded bytes or uint8 pixels [H, W, 1, 3 or 4], not "
            f"{pixels.dtype} {list(pixels.shape)}"
        )
    if pixels.shape[2] == 4:
        background = {"white": 255, "black": 0}.get(operation.alpha)
        pixels = pixels[..., :3] if background is None else composite(pixels, background)
    if operation.channels == "grey":
        return pixels if pixels.shape[2] == 1 else grey(pixels)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def size(operation: Decode, data: bytes, limits: Limits) -> tuple[int, int]:
    """Height and width that `decode` gives; the pixels are not read."""

    def upright(image: "Image") -> tuple[int, int]:
        turned = operation.exif and _orientation(image) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)

    return _opened(data, limits, upright)


def _pixels(data: bytes, exif: bool, limits: Limits) -> Array:
    def read(image: "Image") -> Array:
        # Pixels first: reading EXIF reads a PNG to its end, and its damage would not be told again.
        pixels = _eight_bit(image)
        return _turned(pixels, _orientation(image) if exif else 1)

    return _opened(data, limits, read)


def _opened(data: bytes, limits: Limits, use: Callable[["Image"], Result]) -> Result:
    from PIL import Image, UnidentifiedImageError

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits)
            return use(image)
    except UnidentifiedImageError:
        raise PreprocessingError(
            "the image is not a PNG, JPEG, WebP, GIF or BMP file", "send one of these formats"
        ) from None
    except bombs:
        raise _too_many(limits) from None
    except BROKEN as error:
        raise PreprocessingError(f"the image is damaged or truncated: {error}") from None


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.max_pixels:
        raise _too_many(limits)


def _too_many(limits: Limits) -> PreprocessingError:
    return PreprocessingError(
        f"the image has more than {limits.max_pixels} pixels", "send a smaller image"
    )


def _eight_bit(image: "Image") -> Array:
    """uint8 [H, W, 1|3|4]."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow halves 16-bit colour itself
        wide = np.asarray(image).astype(np.int64)
        return (np.clip(wide, 0, 65535) >> 8).astype(np.uint8)[..., np.newaxis]
    transparent = image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info
    wanted = "RGBA" if transparent else "L" if image.mode in ("1", "L") else "RGB"
    pixels = np.asarray(image.convert(wanted), dtype=np.uint8)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _orientation(image: "Image") -> int:
    """1..8; EXIF that cannot be read counts as none, as in browsers."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except (*BROKEN, UserWarning):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(pixels: Array, orientation: int) -> Array:
    """As the viewer sees it. 5..8 swap the axes; then 2, 3, 7, 8 ... mirror."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    mirror_rows = orientation in (3, 4, 7, 8)
    mirror_columns = orientation in (2, 3, 6, 7)
    return pixels[:: -1 if mirror_rows else 1, :: -1 if mirror_columns else 1]
