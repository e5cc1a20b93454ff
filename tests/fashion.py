"""The example model, its preprocessing and the first 4,500 test images."""

from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion-mnist"
LABELS = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PREPROCESSING = (
    {"op": "decode", "channels": "rgb"},
    {"op": "resize", "height": 28, "width": 28, "method": "area_bilinear"},
    {"op": "cast", "dtype": "float32"},
)
DATA = {
    "evaluation": EXAMPLE / "data" / "test-images-idx3-ubyte.gz",
    "evaluation_labels": EXAMPLE / "data" / "test-labels-idx1-ubyte.gz",
}
