"""Resizing against known values, Pillow, and recorded pixels of Jimp."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipcook_deploy.preprocess.execute import prepare
from pipcook_deploy.preprocess.operations import Resize

# Made with jimp 0.16.13 by `image.resize(width, height)` from pixels of `patterned`.
JIMP = json.loads((Path(__file__).parent / "jimp_resize.json").read_text())


def resized(image, height, width, **options):
    return prepare([Resize(height=height, width=width, **options)], image)


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def patterned(height, width):
    """Knuth's multiplicative hash of the position, its high byte."""
    place = np.arange(height * width * 3, dtype=np.uint64)
    high = ((place * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)) >> np.uint64(24)
    return high.astype(np.uint8).reshape(height, width, 3)


def row(*values):
    return np.asarray(values, np.uint8).reshape(1, -1, 1)


@pytest.mark.parametrize(
    "case", JIMP, ids=lambda c: "{width}x{height}-{to_width}x{to_height}".format(**c)
)
def test_area_bilinear_gives_the_pixels_of_jimp(case):
    image = patterned(case["height"], case["width"])
    ours = resized(image, case["to_height"], case["to_width"], method="area_bilinear")
    assert ours.shape == (case["to_height"], case["to_width"], 3)
    assert hashlib.sha256(ours.tobytes()).hexdigest() == case["sha256"]


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(31, 45, 16, 20), (20, 16, 33, 50), (50, 10, 7, 41)])
def test_antialias_is_within_one_level_of_pillow(method, size):
    height, width, to_height, to_width = size
    image = noise(height, width)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    theirs = np.asarray(Image.fromarray(image).resize((to_width, to_height), filters[method]))
    ours = resized(image, to_height, to_width, method=method, antialias=True)
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    # Pillow rounds (and clamps) between the passes and to 8 bits of weight.
    assert difference.max() <= (1 if method == "bilinear" else 2) or np.mean(difference > 1) < 0.02


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "bilinear"}, [0, 25, 75, 100]),
        ({"method": "bilinear", "corners": "align_corners"}, [0, 100 / 3, 200 / 3, 100]),
        ({"method": "bilinear", "corners": "asymmetric"}, [0, 50, 100, 100]),
        ({"method": "nearest"}, [0, 0, 100, 100]),
        ({"method": "nearest", "corners": "align_corners"}, [0, 0, 100, 100]),
        ({"method": "bicubic", "corners": "align_corners"}, [0, 800 / 27, 1900 / 27, 100]),
    ],
)
def test_two_pixels_grow_to_four_as_worked_out_by_hand(options, expected):
    result = resized(row(0, 100), 1, 4, round=False, **options)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.ravel(), expected, atol=1e-5)


def test_rounding_is_half_up_and_clamped():
    assert resized(row(0, 1), 1, 1).item() == 1  # 0.5
    grown = resized(row(0, 255, 0, 255), 1, 16, method="bicubic")
    assert grown.dtype == np.uint8 and grown.min() == 0 and grown.max() == 255


def test_cover_keeps_the_centre():
    image = np.zeros((10, 30, 1), np.uint8)
    image[:, 10:20] = 200
    assert resized(image, 10, 10, fit="cover").min() == 200


def test_cover_of_a_hair_needs_no_memory():
    assert resized(np.full((1, 20000, 1), 7, np.uint8), 224, 224, fit="cover").max() == 7


def test_equal_size_changes_nothing():
    image = noise(9, 8)
    for method in ("nearest", "bilinear", "bicubic", "area_bilinear"):
        np.testing.assert_array_equal(resized(image, 9, 8, method=method), image)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "nearest", "antialias": True},
        {"antialias": True, "corners": "asymmetric"},
        {"method": "area_bilinear", "fit": "cover"},
        {"height": 0},
    ],
)
def test_combinations_that_do_not_exist_are_refused(options):
    with pytest.raises(ValidationError):
        Resize(**({"height": 4, "width": 4} | options))
