"""Encoded images: every odd file has one defined answer, every bad one an error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.preprocess.decode import Limits
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.preprocess.execute import prepare
from pipcook_deploy.preprocess.operations import Decode


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data, **options):
    return prepare([Decode(**options)], data)


def png(width, height, depth, colour, rows):
    """A PNG written by hand: Pillow cannot write all that it reads."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


ASYMMETRIC = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_lossless_formats(kind):
    assert decoded(encoded(Image.fromarray(ASYMMETRIC), kind), channels="grey")[
        ..., 0
    ].tolist() == (ASYMMETRIC.tolist())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats(kind):
    result = decoded(encoded(Image.new("RGB", (16, 8), (200, 30, 90)), kind, quality=95))
    assert result.shape == (8, 16, 3) and result.dtype == np.uint8
    assert np.abs(result.astype(int) - (200, 30, 90)).max() < 8


def test_grey_formula():
    assert (
        decoded(encoded(Image.new("RGB", (1, 1), (10, 200, 30))), channels="grey").item()
        == (19595 * 10 + 38470 * 200 + 7471 * 30 + 32768) >> 16
    )


def test_transparency():
    data = encoded(Image.new("RGBA", (1, 1), (100, 0, 255, 51)))
    assert decoded(data).ravel().tolist() == [100, 0, 255]
    assert decoded(data, alpha="white").ravel().tolist() == [224, 204, 255]
    assert decoded(data, alpha="black").ravel().tolist() == [20, 0, 51]


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert decoded(encoded(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    transparent = encoded(image, transparency=1)
    assert decoded(transparent, alpha="black").tolist() == [[[10, 20, 30], [0, 0, 0]]]


def test_sixteen_bits_keep_the_high_byte():
    grey = png(2, 1, 16, 0, [struct.pack(">HH", 0x12FF, 0xFE00)])
    assert decoded(grey, channels="grey").ravel().tolist() == [0x12, 0xFE]
    assert decoded(grey).shape == (1, 2, 3)
    colour = png(1, 1, 16, 2, [struct.pack(">HHH", 0x01FF, 0x80FF, 0xFF00)])
    assert decoded(colour).ravel().tolist() == [0x01, 0x80, 0xFF]


def test_one_bit_and_cmyk():
    assert decoded(encoded(Image.new("1", (1, 1), 1))).ravel().tolist() == [255] * 3
    cmyk = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    assert np.abs(decoded(cmyk)[0, 0].astype(int) - (0, 255, 255)).max() <= 3


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(ASYMMETRIC), "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert decoded(data, channels="grey")[..., 0].tolist() == expected.tolist()
    assert decoded(data, channels="grey", exif=False)[..., 0].tolist() == ASYMMETRIC.tolist()


def test_exif_that_is_nonsense_is_ignored():
    data = encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0garbage that is no TIFF header")
    assert decoded(data).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"BM"],
)
def test_what_is_no_image(data):
    with pytest.raises(PreprocessingError):
        decoded(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_truncated_anywhere(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    refused = 0
    for end in range(0, len(data) - 20, max(1, len(data) // 23)):
        try:
            assert decoded(data[:end]).shape == (40, 40, 3)
        except PreprocessingError:
            refused += 1
    assert refused >= 20


@pytest.mark.parametrize("exif", [True, False])
def test_reading_exif_hides_no_damage(exif):
    """Pillow reads a PNG to its end for it, and remembers no error."""
    data = png(4, 4, 8, 2, [b"\xff" * 12] * 4)
    assert decoded(data, exif=exif).min() == 255
    with pytest.raises(PreprocessingError, match="damaged or truncated"):
        decoded(data.replace(b"IDAT\x78", b"IDAT\x00"), exif=exif)


def test_flipped_bytes_never_escape_as_another_error():
    generator = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        data = bytearray(encoded(Image.fromarray(noise_image(generator)), kind))
        for _ in range(60):
            broken = bytearray(data)
            for place in generator.integers(0, len(data), 4):
                broken[place] = generator.integers(256)
            try:
                decoded(bytes(broken))
            except PreprocessingError as error:
                assert error.exit_code == 2


def noise_image(generator):
    return generator.integers(0, 256, (12, 12, 3), np.uint8)


@pytest.mark.parametrize("side", [3000, 12000, 60000])
def test_bombs_are_refused_before_they_are_decoded(side):
    bomb = png(side, side, 8, 2, [b"\0" * 10])
    with pytest.raises(PreprocessingError, match="pixels"):
        prepare([Decode()], bomb, Limits(max_pixels=1_000_000))


def test_other_formats_are_refused():
    with pytest.raises(PreprocessingError, match="not a PNG"):
        decoded(encoded(Image.new("RGB", (4, 4)), "TIFF"))
