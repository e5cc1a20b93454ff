"""Small pictures of samples: from the file that a sample came from, or else from its tensor."""

import base64
import io
from pathlib import Path
from typing import Any

from pipcook_deploy.samples import IMAGES
from pipcook_deploy.spec import ModelSpec

SIDE = 96  # pixels at most
SMALLEST = 8  # an axis that is shorter is not one of a picture
RANGED = 64  # samples that tell what range the values have


class Pictures:
    """Draws samples of one split.

    Preprocessing is not undone: what the model was given is stretched to what can be shown, all
    samples alike.
    """

    def __init__(self, spec: ModelSpec, inputs: dict[str, Any]) -> None:
        self._array = _image_array(spec, inputs)
        self._range = None if self._array is None else value_range(self._array[:RANGED])

    def of(self, row: int, origin: str) -> str | None:
        """A PNG as base64; None for what is no picture."""
        from_file = _file_picture(origin)
        if from_file is not None or self._array is None or self._range is None:
            return from_file
        return _encode(_as_image(self._array[row], *self._range))


def value_range(values: Any) -> tuple[float, float]:
    """What is black and what is white: bytes, 0 to 1 and -1 to 1 are known; anything else is stretched."""
    import numpy as np

    if values.dtype == np.uint8:
        return 0.0, 255.0
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    for black, white in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if low >= black and high <= white:
            return black, white
    return low, high


def _image_array(spec: ModelSpec, inputs: dict[str, Any]) -> Any:
    """The input that pictures go into: what decodes images, or else the only one of such a shape."""
    decoding = [n for n, ops in spec.preprocessing.items() if ops and ops[0].op == "decode"]
    fitting = [n for n, value in inputs.items() if _channels_last(value) is not None]
    chosen = [name for name in decoding if name in fitting] or fitting
    return inputs[chosen[0]] if len(chosen) == 1 else None


def _channels_last(batch: Any) -> bool | None:
    """Whether [n, H, W, 1 | 3] (True) or [n, 1 | 3, H, W] (False); None if it is neither."""
    if getattr(batch, "ndim", 0) != 4 or batch.dtype.kind not in "fiu":
        return None
    _, first, second, last = batch.shape
    if last in (1, 3) and min(first, second) >= SMALLEST:
        return True
    return False if first in (1, 3) and min(second, last) >= SMALLEST else None


def _as_image(sample: Any, black: float, white: float) -> Any:
    import numpy as np
    from PIL import Image

    pixels = np.asarray(sample, dtype=np.float64)
    if not _channels_last(pixels[None]):
        pixels = np.moveaxis(pixels, 0, -1)
    scaled = (pixels - black) * (255 / (white - black or 1.0))
    levels = np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _file_picture(origin: str) -> str | None:
    from PIL import Image, ImageOps

    path = Path(origin)
    if path.suffix.lower() not in IMAGES or "\0" in origin or not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a large JPEG is decoded small
            return _encode(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _encode(image: Any) -> str:
    buffer = io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
