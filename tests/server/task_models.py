"""Tiny models of every task, beside those of `tiny_models`."""

import numpy as np

from tests.server import tiny_models
from tests.server.tiny_models import save, tensor


def person(folder):
    """A row of several columns, each answered as it came."""
    columns = [
        tensor("age", "float32", None),
        tensor("income", "float64", None, 1),
        tensor("city", "string", None, 1),
        tensor("member", "bool", None),
        tensor("visits", "int64", None, 2),
    ]
    return save(
        folder,
        "person",
        [("Identity", (f"in:{c['name']}",), (f"out:{c['name']}_out",), {}) for c in columns],
        columns,
        [c | {"name": f"{c['name']}_out"} for c in columns],
        task="tabular",
    )


def iris(folder):
    """Four numbers; the scores of three classes are the first three."""
    return save(
        folder,
        "iris",
        [("Slice", ("in:x", "start", "end", "axis"), ("out:scores",), {})],
        [tensor("x", "float32", None, 4)],
        [tensor("scores", "float32", None, 3)],
        [
            ("start", np.array([0], np.int64)),
            ("end", np.array([3], np.int64)),
            ("axis", np.array([1], np.int64)),
        ],
        task="tabular",
        labels=["setosa", "versicolor", "virginica"],
    )


def spam(folder):
    """The probability of the second class: the only number of a row."""
    return save(
        folder,
        "spam",
        [("Identity", ("in:p",), ("out:probability",), {})],
        [tensor("p", "float32", None, 1)],
        [tensor("probability", "float32", None, 1)],
        task="text-classification",
        labels=["ham", "spam"],
    )


BOXES = [[0.0, 0.0, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
FIT = {"op": "resize", "height": 4, "width": 4, "fit": "cover"}


def detector(folder, resize=None):
    """Three boxes in every picture: scores 0.6, 0.9 and 0.1."""
    operations = [
        {"op": "decode"},
        resize or tiny_models.IMAGE[1],
        {"op": "cast", "dtype": "float32"},
    ]
    return save(
        folder,
        "detector",
        [
            ("ReduceMean", ("in:image", "axes"), ("mean",), {"keepdims": 0}),
            ("Mul", ("mean", "zero"), ("none",), {}),
            ("Unsqueeze", ("none", "second"), ("column",), {}),
            ("Unsqueeze", ("column", "third"), ("cube",), {}),
            ("Add", ("cube", "boxes"), ("out:boxes",), {}),
            ("Add", ("column", "scores"), ("out:scores",), {}),
            ("Add", ("column", "classes"), ("out:classes",), {}),
        ],
        [tensor("image", "float32", None, 4, 4, 3)],
        [
            tensor("boxes", "float32", None, 3, 4),
            tensor("scores", "float32", None, 3),
            tensor("classes", "float32", None, 3),
        ],
        [
            ("axes", np.array([1, 2, 3], np.int64)),
            ("zero", np.float32(0)),
            ("second", np.array([1], np.int64)),
            ("third", np.array([2], np.int64)),
            ("boxes", np.array([BOXES], np.float32)),
            ("scores", np.array([[0.6, 0.9, 0.1]], np.float32)),
            ("classes", np.array([[0, 1, 0]], np.float32)),
        ],
        task="object-detection",
        labels=["cat", "dog"],
        preprocessing={"image": operations},
    )


def painter(folder, dtype="uint8"):
    """A picture of 4 x 4 pixels, answered as it came: as bytes, or as numbers."""
    return save(
        folder,
        "painter",
        [("Identity", ("in:image",), ("out:picture",), {})],
        [tensor("image", dtype, None, 4, 4, 3)],
        [tensor("picture", dtype, None, 4, 4, 3)],
        task="image-to-image",
        preprocessing={"image": [*tiny_models.IMAGE[:2], {"op": "cast", "dtype": dtype}]},
    )


FRUIT = {
    "apple": (205, 45, 50),
    "plum": (95, 50, 120),
    "orange": (240, 140, 30),
    "pear": (175, 190, 60),
    "lemon": (245, 220, 70),
}


def fruit(folder, version="1"):
    """Tells fruit by the mean colour: the nearer to a fruit's own, the higher its probability."""
    colours = np.array(list(FRUIT.values()), np.float32) / 255
    # -|m - c|^2 up to a constant, so steep that the nearest is almost certain.
    steep = 12.0
    return save(
        folder,
        "fruit",
        [
            ("ReduceMean", ("in:image", "axes"), ("mean",), {"keepdims": 0}),
            ("MatMul", ("mean", "weights"), ("product",), {}),
            ("Add", ("product", "bias"), ("logits",), {}),
            ("Softmax", ("logits",), ("out:scores",), {"axis": 1}),
        ],
        [tensor("image", "float32", None, 4, 4, 3)],
        [tensor("scores", "float32", None, 5)],
        [
            ("axes", np.array([1, 2], np.int64)),
            ("weights", (2 * steep * colours.T).astype(np.float32)),
            ("bias", (-steep * (colours**2).sum(axis=1)).astype(np.float32)),
        ],
        task="image-classification",
        labels=list(FRUIT),
        description="Tells fruit by its colour.",
        version=version,
        preprocessing={
            "image": [
                {"op": "decode"},
                {"op": "center_crop", "height": 90, "width": 90},
                *tiny_models.IMAGE[1:],
            ]
        },
    )


def homes(folder):
    """The price of a home: a sum of its columns."""
    columns = [
        tensor("area", "float32", None, 1),
        tensor("rooms", "int64", None, 1),
        tensor("built", "int64", None, 1),
        tensor("garden", "bool", None, 1),
        tensor("city", "string", None, 1),
    ]
    return save(
        folder,
        "homes",
        [
            *[
                ("Cast", (f"in:{name}",), (f"{name}.number",), {"to": 1})
                for name in ("rooms", "built", "garden")
            ],
            (
                "Concat",
                ("in:area", "rooms.number", "built.number", "garden.number"),
                ("row",),
                {"axis": 1},
            ),
            ("MatMul", ("row", "weights"), ("sum",), {}),
            ("Add", ("sum", "base"), ("out:price",), {}),
            ("Identity", ("in:city",), ("out:city_read",), {}),
        ],
        columns,
        [tensor("price", "float32", None, 1), tensor("city_read", "string", None, 1)],
        [
            ("weights", np.array([[3500], [12000], [900], [25000]], np.float32)),
            ("base", np.array([-1_700_000], np.float32)),
        ],
        task="tabular",
        description="What a home costs.",
    )
