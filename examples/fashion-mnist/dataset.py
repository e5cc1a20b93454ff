"""Fashion-MNIST from idx files, as images that a Pipcook pipeline would feed: RGB, 0-255."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

# The Debian package `dataset-fashion-mnist` puts its four files here.
INSTALLED = Path("/usr/share/datasets/fashion-mnist")

# The first class is called "T-shirt/top" by its makers; here a label is also a folder's name.
LABELS = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

Array = np.ndarray[Any, Any]


def load(split: str, folder: Path) -> tuple[Array, Array]:
    """Images uint8 [n, 28, 28] and labels uint8 [n] of the "train" or "t10k" split.

    Exits with what to do when the files are not there.
    """
    images = read_idx(find(folder, f"{split}-images-idx3-ubyte"))
    labels = read_idx(find(folder, f"{split}-labels-idx1-ubyte"))
    if images.shape[1:] != (28, 28) or len(images) != len(labels):
        raise SystemExit(f"{folder}: images {images.shape} and labels {labels.shape} do not fit")
    return images, labels


def find(folder: Path, name: str) -> Path:
    """The idx file `name`, gzipped or not."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise SystemExit(
        f"{folder}: no {name} or {name}.gz\n"
        "run: apt-get install dataset-fashion-mnist, or name a folder of idx files with --data"
    )


def read_idx(path: Path) -> Array:
    """An idx file of bytes: two zeros, 0x08, the number of axes, their lengths (big-endian), the bytes."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an idx file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise SystemExit(f"{path}: {values.size} values where {shape.tolist()} are announced")
    return values.reshape(tuple(int(length) for length in shape))


def as_rgb(images: Array) -> Array:
    """Grey uint8 [n, 28, 28] -> float32 [n, 28, 28, 3], 0-255: what decoding a grey PNG as RGB gives."""
    return np.repeat(images[..., None], 3, axis=-1).astype(np.float32)
