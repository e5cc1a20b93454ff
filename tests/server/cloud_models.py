"""The models of TF Serving's documentation, so that its examples can be sent as they are."""

import numpy as np

from tests.server.tiny_models import save, tensor


def half_plus_three(folder):
    """x / 2 + 3, one number a row."""
    inputs, outputs = [tensor("x", "float32", None)], [tensor("y", "float32", None)]
    same = {"inputs": inputs, "outputs": outputs}
    return save(
        folder,
        "half_plus_three",
        [("Mul", ("in:x", "half"), ("h",), {}), ("Add", ("h", "three"), ("out:y",), {})],
        inputs,
        outputs,
        [("half", np.float32(0.5).reshape(1)), ("three", np.float32(3).reshape(1))],
        version="123",
        signatures={
            "serving_default": same,
            "tensorflow/serving/regress": same,
            "other": {"inputs": [tensor("z", "float32", None)], "outputs": outputs},
        },
    )


def sensors(folder):
    """A tag, a signal and a sensor, each as it came; the tag as text and as bytes."""
    columns = [
        tensor("tag", "string", None),
        tensor("signal", "int64", None, 5),
        tensor("sensor", "float32", None, 2, 2),
    ]
    names = {"tag": ["tag_text", "tag_bytes"], "signal": ["signal"], "sensor": ["sensor"]}
    return save(
        folder,
        "sensors",
        [
            ("Identity", (f"in:{name}",), (f"out:{out}",), {})
            for name, outs in names.items()
            for out in outs
        ],
        columns,
        [c | {"name": out} for c in columns for out in names[c["name"]]],
        signatures={"tags": {"inputs": columns, "outputs": [tensor("tag_text", "string", None)]}},
    )


def person(folder):
    """Columns of a table: one value of each a row."""
    columns = [
        tensor("age", "float32", None, 1),
        tensor("city", "string", None, 1),
        tensor("member", "bool", None),
        tensor("visits", "int32", None),
    ]
    return save(
        folder,
        "person",
        [("Identity", (f"in:{c['name']}",), (f"out:{c['name']}_out",), {}) for c in columns],
        columns,
        [c | {"name": f"{c['name']}_out"} for c in columns],
        task="tabular",
    )
