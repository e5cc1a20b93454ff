"""Specs and small data that readers are tried with."""

import gzip
import struct

import numpy as np
from PIL import Image

from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.data.prepare import prepare_data
from pipcook_deploy.spec import ModelSpec, TensorSpec

LABELS = ("cat", "dog", "owl")
WORDS = ("buy", "now", "hello", "friend", *map(str, range(20)))


def pictures(side=8, channels="rgb", labels=LABELS):
    """A model of pictures, as float32 from 0 to 1."""
    return ModelSpec(
        task="image-classification",
        inputs=(
            TensorSpec(
                name="x",
                dtype="float32",
                shape=(None, side, side, 1 if channels == "grey" else 3),
            ),
        ),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 3)),),
        preprocessing={
            "x": (
                {"op": "decode", "channels": channels},
                {"op": "resize", "height": side, "width": side},
                {"op": "scale", "factor": 1 / 255},
            )
        },
        labels=labels,
    )


def tabular(width=3, classes=3, labels=(), task="tabular"):
    """A model of `width` numbers."""
    return ModelSpec(
        task=task,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(None, width)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, classes)),),
        labels=labels,
    )


def texts(labels=("ham", "spam")):
    """A model of texts of a few known words."""
    return ModelSpec(
        task="text-classification",
        inputs=(TensorSpec(name="x", dtype="int32", shape=(None, 5)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 1)),),
        preprocessing={
            "x": ({"op": "tokenize", "vocabulary": WORDS}, {"op": "pad", "length": 5}),
        },
        labels=labels,
    )


def detector(*operations):
    """A model of pictures with objects."""
    return ModelSpec(
        task="object-detection",
        inputs=(TensorSpec(name="x", dtype="uint8", shape=(None, 10, 10, 3)),),
        outputs=(TensorSpec(name="boxes", dtype="float32", shape=(None, 5, 4)),),
        preprocessing={
            "x": ({"op": "decode"}, *(operations or ({"op": "resize", "height": 10, "width": 10},)))
        },
        labels=LABELS,
    )


def prepared(spec, folder, given=None, **options):
    """What `prepare_data` makes of it in `folder`."""
    return prepare_data(spec, DataOptions(**options), folder, given)


def write_pictures(folder, each=12, side=10, seed=0, classes=LABELS):
    """Random PNGs in folders by class."""
    rng = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:03d}.png")
    return folder


def write_idx(path, values, packed=False):
    """An idx file of bytes."""
    content = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    content += values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def rows_of(data, name="x"):
    """Every sample of every split as bytes, by split."""
    return {
        split.name: [row.tobytes() for row in np.array(split.inputs()[name])]
        for split in data.splits.values()
    }
