"""Tiny ONNX models, and servers of them in a process of their own."""

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.spec import ModelSpec

ONNX_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip
IMAGE = [
    {"op": "decode"},
    {"op": "resize", "height": 4, "width": 4, "method": "area_bilinear"},
    {"op": "scale", "factor": 1 / 255},
]


def tensor(name, dtype, *shape):
    return {"name": name, "dtype": dtype, "shape": shape}


def save(folder, name, nodes, inputs, outputs, constants=(), **spec):
    """Write model, spec.json and artifact.json. ONNX tensors are called `in:NAME` and `out:NAME`."""
    import onnx
    from onnx import helper

    def info(row, side):
        shape = [f"d{i}" if d is None else d for i, d in enumerate(row["shape"])]
        return helper.make_tensor_value_info(
            f"{side}:{row['name']}", ONNX_TYPES[row["dtype"]], shape
        )

    graph = helper.make_graph(
        [
            helper.make_node(op, list(sources), list(targets), **more)
            for op, sources, targets, more in nodes
        ],
        name,
        [info(row, "in") for row in inputs],
        [info(row, "out") for row in outputs],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants],
    )
    folder = Path(folder) / name
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    declared = ModelSpec(name=name, inputs=inputs, outputs=outputs, **spec)

    def bind(rows, side):
        return tuple(Binding(t.name, f"{side}:{t.name}", t.dtype, t.shape) for t in rows)

    artifact = Artifact(
        "onnx",
        "onnx",
        folder,
        "model.onnx",
        bind(declared.inputs, "in"),
        bind(declared.outputs, "out"),
    )
    (folder / "spec.json").write_text(declared.model_dump_json())
    (folder / "artifact.json").write_text(json.dumps(artifact.to_json()))
    return folder


def colours(folder, name="colours", batch=None, **spec):
    """Scores of an image [4, 4, 3]: the means of red, green and blue."""
    return save(
        folder,
        name,
        [("ReduceMean", ("in:image", "axes"), ("out:scores",), {"keepdims": 0})],
        [tensor("image", "float32", batch, 4, 4, 3)],
        [tensor("scores", "float32", batch, 3)],
        [("axes", np.array([1, 2], np.int64))],
        **({"labels": ["red", "green", "blue"], "preprocessing": {"image": IMAGE}} | spec),
    )


def words(folder):
    """Scores of a text of four ids: how many are 0, 1, 2 ... by a lookup in the identity."""
    tokenize = {"op": "tokenize", "vocabulary": ["good", "bad"]}
    return save(
        folder,
        "words",
        [
            ("Gather", ("table", "in:ids"), ("rows",), {}),
            ("ReduceSum", ("rows", "axes"), ("out:scores",), {"keepdims": 0}),
        ],
        [tensor("ids", "int32", None, 4)],
        [tensor("scores", "float32", None, 4)],
        [("table", np.eye(4, dtype=np.float32)), ("axes", np.array([1], np.int64))],
        task="text-classification",
        labels=["padding", "unknown", "good", "bad"],
        preprocessing={"ids": [tokenize, {"op": "pad", "length": 4}]},
    )


ECHOED = [dtype for dtype in ONNX_TYPES if not dtype.endswith("float16")]


def echo(folder):
    """Every datatype in, the same out."""
    dtypes = ECHOED
    return save(
        folder,
        "echo",
        [("Identity", (f"in:{d}",), (f"out:{d}_out",), {}) for d in dtypes],
        [tensor(d, d, None, 2) for d in dtypes],
        [tensor(f"{d}_out", d, None, 2) for d in dtypes],
    )


def half(folder):
    """A number as FP16: a datatype without a JSON form."""
    return save(
        folder,
        "half",
        [("Cast", ("in:x",), ("out:y",), {"to": ONNX_TYPES["float16"]})],
        [tensor("x", "float32", None)],
        [tensor("y", "float16", None)],
    )


def halves(folder):
    """FP16 and BF16 in, the same out, and their sum."""
    half, brain = "float16", "bfloat16"
    return save(
        folder,
        "halves",
        [
            ("Identity", (f"in:{half}",), (f"out:{half}_out",), {}),
            ("Identity", (f"in:{brain}",), (f"out:{brain}_out",), {}),
            ("Cast", (f"in:{half}",), ("a",), {"to": ONNX_TYPES["float32"]}),
            ("Cast", (f"in:{brain}",), ("b",), {"to": ONNX_TYPES["float32"]}),
            ("Add", ("a", "b"), ("out:sum",), {}),
        ],
        [tensor(half, half, None, 2), tensor(brain, brain, None, 2)],
        [
            tensor(f"{half}_out", half, None, 2),
            tensor(f"{brain}_out", brain, None, 2),
            tensor("sum", "float32", None, 2),
        ],
    )


def logarithm(folder, task="tabular"):
    """Two numbers and their logarithms: NaN and -Infinity come easily. No labels."""
    return save(
        folder,
        "logarithm",
        [("Log", ("in:x",), ("out:y",), {})],
        [tensor("x", "float32", None, 2)],
        [tensor("y", "float32", None, 2)],
        task=task,
    )


def slow(folder, rounds=1500):
    """A second or so of matrix products for each request."""
    size = 256
    nodes = [
        ("MatMul", ("in:x" if i == 0 else f"y{i}", "weights"), (f"y{i + 1}",), {})
        for i in range(rounds)
    ]
    nodes.append(("ReduceMean", (f"y{rounds}", "axes"), ("out:y",), {"keepdims": 0}))
    return save(
        folder,
        "slow",
        nodes,
        [tensor("x", "float32", None, size, size)],
        [tensor("y", "float32", None, size)],
        [
            ("weights", np.full((size, size), 1 / size, np.float32)),
            ("axes", np.array([1], np.int64)),
        ],
    )


@dataclass
class Server:
    url: str
    process: subprocess.Popen

    @property
    def address(self):
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)


@contextmanager
def serving(folder, *options):
    """A server on a free port; its URL is what it says when it is ready."""
    command = [sys.executable, "-m", "pipcook_deploy.server", "--port", "0"]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    with started([*command, *options]) as server:
        yield server


@contextmanager
def started(command):
    """A server by a command that says its URL when it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("serving at "), line + process.stderr.read()
        yield Server(line.removeprefix("serving at ").strip(), process)
    finally:
        if process.poll() is None:
            process.terminate()
        _, errors = process.communicate(timeout=20)
        assert "Traceback" not in errors, errors


@contextmanager
def client_of(folder, *options):
    """A client of a server of its own."""
    with serving(folder, *options) as server, httpx.Client(base_url=server.url) as client:
        yield client
