"""The closed set of preprocessing operations, as data.

An operation declares what happens; `pipcook_deploy.preprocess.execute` does it in Python. The
formula and the rounding of each operation stand in its docstring and, with worked examples, in
`docs/preprocessing.md`, exactly enough to be written again in another language with the same bits.

Arithmetic is IEEE float64 in the order written, rounded once to float32 at the end of the operation
(ties to even), unless an operation says otherwise. Images are HWC.
"""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from pipcook_deploy.options import Options

Positive = Annotated[int, Field(ge=1, le=65535)]


class Decode(Options):
    """Encoded image bytes (PNG, JPEG, WebP, GIF first frame, BMP) -> uint8 [H, W, 3] or [H, W, 1].

    EXIF orientation is applied when `exif` is set. Transparent pixels: `drop` keeps the stored
    colour, `white`/`black` composite c = (c*a + b*(255-a) + 127) // 255 in integers.
    `grey` uses the formula of `Color`.
    """

    op: Literal["decode"] = "decode"
    channels: Literal["rgb", "grey"] = "rgb"
    exif: bool = True
    alpha: Literal["drop", "white", "black"] = "drop"


class Color(Options):
    """Channel conversion of a uint8 image: grey = (19595 R + 38470 G + 7471 B + 32768) >> 16."""

    op: Literal["color"] = "color"
    to: Literal["grey", "rgb", "bgr"]


class Resize(Options):
    """Resample an image to `height` x `width` (docs/preprocessing.md has the weights of each method).

    `bicubic` is Keys' kernel with a = -1/2. `antialias` widens the kernel by the ratio when shrinking
    (as Pillow and tf.image do). `fit` `stretch` ignores the aspect ratio; `cover` scales by
    max(height/H, width/W) and keeps the centre. `round` gives uint8 by floor(x + 0.5) clamped to
    [0, 255]; otherwise float32. `area_bilinear` is the default resize of Jimp 0.x, hence of Pipcook:
    area mean when shrinking, linear when growing; its result is whole numbers either way.
    """

    op: Literal["resize"] = "resize"
    height: Positive
    width: Positive
    method: Literal["nearest", "bilinear", "bicubic", "area_bilinear"] = "bilinear"
    corners: Literal["half_pixel", "align_corners", "asymmetric"] = "half_pixel"
    antialias: bool = False
    fit: Literal["stretch", "cover"] = "stretch"
    round: bool = True

    @model_validator(mode="after")
    def _combination_exists(self) -> "Resize":
        if self.antialias and self.method not in ("bilinear", "bicubic"):
            raise ValueError(f"antialias does not exist for {self.method}")
        if self.antialias and self.corners != "half_pixel":
            raise ValueError("antialias needs corners = half_pixel")
        if self.method == "area_bilinear" and (self.corners, self.fit) != ("half_pixel", "stretch"):
            raise ValueError("area_bilinear has no corners and no fit: leave both out")
        return self


class CenterCrop(Options):
    """The central `height` x `width`; top = (H - height) // 2, left = (W - width) // 2."""

    op: Literal["center_crop"] = "center_crop"
    height: Positive
    width: Positive


class Scale(Options):
    """float32(x * factor + offset)."""

    op: Literal["scale"] = "scale"
    factor: FiniteFloat = 1.0
    offset: FiniteFloat = 0.0


class Normalize(Options):
    """float32((x - mean[c]) / std[c]) over the channel axis (last axis); one value serves all channels."""

    op: Literal["normalize"] = "normalize"
    mean: tuple[FiniteFloat, ...] = Field(min_length=1)
    std: tuple[FiniteFloat, ...] = Field(min_length=1)

    @field_validator("std")
    @classmethod
    def _std_is_not_zero(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not v > 0 for v in value):
            raise ValueError("std must be greater than zero")
        return value


class NormalizePerImage(Options):
    """float32((x - m) / max(s, epsilon)) with m and s (population) over the whole image or each channel.

    Sums run in float64 over pixels in row-major order, channel innermost. With `rounded`, m and s are
    floor(v + 0.5) first (Pipcook 2's `normalize`).
    """

    op: Literal["normalize_per_image"] = "normalize_per_image"
    per_channel: bool = False
    rounded: bool = False
    epsilon: FiniteFloat = Field(default=1e-7, gt=0)


class Layout(Options):
    """HWC to the model's axis order: `hwc` or `chw`, or `flat` (row-major HWC)."""

    op: Literal["layout"] = "layout"
    to: Literal["hwc", "chw", "flat"]


class Cast(Options):
    """To another element type; floats to integers by floor(x + 0.5), clamped to its range; NaN gives 0."""

    op: Literal["cast"] = "cast"
    dtype: Literal["float32", "uint8", "int8", "int32", "int64"]


class Tokenize(Options):
    """Text -> int32 ids. Lower-cases code point by code point (if set), then splits.

    `whitespace` splits at Unicode White_Space; `word` takes maximal runs of Unicode letters (L*),
    numbers (N*) and underscore; `char` takes code points. A token's id is its (first) place in
    `vocabulary` plus `first_id`; an unknown token is `unknown_id`, or left out if that is null.
    """

    op: Literal["tokenize"] = "tokenize"
    vocabulary: tuple[str, ...]
    split: Literal["whitespace", "word", "char"] = "word"
    lower: bool = True
    first_id: int = 2
    unknown_id: int | None = 1


class Pad(Options):
    """Ids -> int32 [length]: cut and filled at the `end` or the `start`."""

    op: Literal["pad"] = "pad"
    length: Positive
    value: int = 0
    side: Literal["end", "start"] = "end"
    cut: Literal["end", "start"] = "end"


Operation = Annotated[
    Decode
    | Color
    | Resize
    | CenterCrop
    | Scale
    | Normalize
    | NormalizePerImage
    | Layout
    | Cast
    | Tokenize
    | Pad,
    Field(discriminator="op"),
]
