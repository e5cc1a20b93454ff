"""Models made by hand, without a framework: small, whole, and easy to damage."""

import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DATA = Path(__file__).with_name("data")


def dense(name: str, units: int, **more: Any) -> dict[str, Any]:
    config = {"name": name, "units": units, "use_bias": True, "activation": "linear"}
    return {"class_name": "Dense", "config": config | more}


def input_layer(shape: list[int | None], name: str = "x", key: str = "batch_input_shape") -> Any:
    return {"class_name": "InputLayer", "config": {key: shape, "dtype": "float32", "name": name}}


def sequential(*layers: Any, name: str = "net") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}


NET = sequential(input_layer([None, 4]), dense("answer", 3))


def keras_archive(
    path: Path, topology: Any = NET, version: str = "3.15.1", **entries: bytes
) -> Path:
    """A `.keras` file; `entries` replace its own (dots written as __)."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as h5:
        h5["layers/dense/vars/0"] = np.zeros((4, 3), "float32")
        h5["layers/dense/vars/1"] = np.zeros(3, "float32")
        h5["optimizer/vars/0"] = np.zeros(99, "float32")
    content = {
        "metadata.json": json.dumps({"keras_version": version}).encode(),
        "config.json": json.dumps(topology).encode(),
        "model.weights.h5": weights.getvalue(),
    } | {key.replace("__", "."): value for key, value in entries.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def keras_h5(path: Path, topology: Any = NET, version: str = "2.15.0") -> Path:
    with h5py.File(path, "w") as h5:
        h5.attrs["keras_version"] = version
        h5.attrs["model_config"] = json.dumps(topology)
        h5["model_weights/answer/kernel:0"] = np.zeros((4, 3), "float32")
        h5["model_weights/answer/bias:0"] = np.zeros(3, "float32")
    return path


def tfjs_layers(
    folder: Path, topology: Any = NET, paths: Any = ("weights.bin",), **more: Any
) -> Path:
    """`model.json` with 15 float32 weights, and the shard."""
    folder.mkdir(parents=True, exist_ok=True)
    specs = [
        {"name": "answer/kernel", "shape": [4, 3], "dtype": "float32"},
        {"name": "answer/bias", "shape": [3], "dtype": "float32"},
    ]
    data = {
        "format": "layers-model",
        "generatedBy": "by hand",
        "modelTopology": topology,
        "weightsManifest": [{"paths": list(paths), "weights": specs}],
    } | more
    (folder / "model.json").write_text(json.dumps(data))
    (folder / "weights.bin").write_bytes(bytes(60))
    return folder


def image_net(size: int = 8, labels: int = 3) -> dict[str, Any]:
    """As Pipcook's: a model within a model. Its weights are not these; only the config is read."""
    inner = sequential(
        input_layer([None, size, size, 3], "inner_in"),
        {
            "class_name": "Conv2D",
            "config": {"name": "conv", "filters": 2, "kernel_size": [3, 3], "strides": [2, 2]},
        },
        name="backbone",
    )
    flat = {"class_name": "Flatten", "config": {"name": "flatten"}}
    return sequential(
        input_layer([None, size, size, 3], "image"), inner, flat, dense("classes", labels)
    )


def workspace(
    root: Path,
    dataflow: Any = ("https://example.org/dataflow.js?size=8&size=8",),
    kind: str = "ImageClassification",
    labels: Any = ("cat", "dog", "owl"),
    topology: Any = None,
) -> Path:
    """A Pipcook 2 workspace."""
    model = tfjs_layers(root / "model", topology or image_net())
    pipeline = {
        "specVersion": "2.0",
        "type": kind,
        "dataflow": list(dataflow),
        "options": {"framework": "tfjs@3.8"},
    }
    (model / "pipeline.json").write_text(json.dumps(pipeline))
    (root / "my.json").write_text(json.dumps(pipeline))
    for name in ("cache", "data", "scripts"):
        (root / name).mkdir()
    (root / "data" / "sample.json").write_text("{}")
    if labels is not None:
        (model / "categories.json").write_text(json.dumps(labels))
    return root


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pb(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message from (number, value)."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def _value(name: str, shape: Iterable[int | str]) -> bytes:
    dims = [(1, pb((2, d)) if isinstance(d, str) else pb((1, d))) for d in shape]
    return pb((1, name), (2, pb((1, pb((1, 1), (2, pb(*dims)))))))


def onnx_bytes(
    opset: int = 18, external: dict[str, str] | None = None, raw: int = 48, op: str = "MatMul"
) -> bytes:
    """x [N,4] times w [4,3] is y [N,3]."""
    tensor: list[tuple[int, int | str | bytes]] = [(1, 4), (1, 3), (2, 1), (8, "w")]
    if external is None:
        tensor.append((9, bytes(raw)))
    else:
        tensor += [(13, pb((1, key), (2, value))) for key, value in external.items()]
        tensor.append((14, 1))
    graph = pb(
        (1, pb((1, "x"), (1, "w"), (2, "y"), (3, "product"), (4, op))),
        (2, "g"),
        (5, pb(*tensor)),
        (11, _value("x", ["N", 4])),
        (11, _value("w", [4, 3])),
        (12, _value("y", ["N", 3])),
    )
    return pb((1, 8), (2, "by hand"), (3, "1.0"), (7, graph), (8, pb((2, opset))))


def saved_model(folder: Path, *ops: str, signatures: bool = True) -> Path:
    """A SavedModel without variables, whose graph has `ops`."""
    folder.mkdir(parents=True, exist_ok=True)

    def info(name: str) -> bytes:
        return pb((1, f"{name}:0"), (2, 1), (3, pb((2, pb((1, -1))))))

    signature = pb((1, pb((1, "a"), (2, info("a")))), (2, pb((1, "b"), (2, info("b")))))
    nodes = [(1, pb((1, f"n{i}"), (2, op))) for i, op in enumerate(("Placeholder", *ops))]
    meta = [
        (1, pb((4, "serve"), (5, "2.5.0"))),
        (2, pb(*nodes)),
        *([(5, pb((1, "serving_default"), (2, signature)))] if signatures else []),
    ]
    (folder / "saved_model.pb").write_bytes(pb((1, 1), (2, pb(*meta))))
    return folder
