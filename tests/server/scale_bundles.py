"""Bundles of a model that multiplies by a factor: the answer tells which version gave it."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import httpx
import numpy as np

from pipcook_deploy.bundle import CARD, MANIFEST, SUMS, sums
from pipcook_deploy.manifest import Manifest
from pipcook_deploy.model_card import render_card
from pipcook_deploy.steps import measure_files
from pipcook_deploy.tensors import save_tensors
from tests.bundles import COMPARED
from tests.server import tiny_models

TOKEN = "a-token-for-the-tests"
INPUTS = {"x": np.array([[1, 2], [3, 4]], np.float32)}


def write(folder, factor, *, name="scale", version="1", recorded=None, width=2):
    """A bundle at `folder`; `recorded` is the factor of its golden answers, if it is another."""
    place = folder / "artifacts" / "onnx"
    place.mkdir(parents=True)
    shutil.move(_model(folder.parent / f".{folder.name}-model", factor, width), place)
    inputs = {"x": np.tile(INPUTS["x"], (1, width // 2))}
    save_tensors(folder / "samples" / "inputs", inputs)
    golden = inputs["x"] * (factor if recorded is None else recorded)
    save_tensors(folder / "samples" / "outputs", {"y": golden})
    manifest = _manifest(folder, name, version, width)
    (folder / CARD).write_text(render_card(manifest))
    card = next(row for row in _stored(folder) if row["path"] == CARD)
    manifest = manifest.model_copy(update={"card": manifest.card.model_copy(update=card)})
    (folder / MANIFEST).write_text(manifest.dump())
    (folder / SUMS).write_bytes(sums(folder))
    return folder


def add(repository, factor, *, name="scale", version=None, recorded=None, width=2):
    """A bundle in a repository, which appears there whole; its version is the factor if nothing else is said."""
    final = repository / name / (version or str(factor))
    final.parent.mkdir(parents=True, exist_ok=True)
    made = write(
        final.with_name(f".{final.name}"), factor, name="other", recorded=recorded, width=width
    )
    if final.exists():
        final.rename(final.with_name(f".{final.name}.old"))
        shutil.rmtree(final.with_name(f".{final.name}.old"))
    return made.rename(final)


@contextmanager
def serving(*arguments):
    """`pipcook-deploy serve`, with a client that may administer."""
    command = [sys.executable, "-m", "pipcook_deploy", "serve", "--port", "0", *map(str, arguments)]
    environment = os.environ | {"PIPCOOK_DEPLOY_ADMIN_TOKEN": TOKEN}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith("serving "):
                break
        else:
            raise AssertionError("\n".join([*said, process.stderr.read()]))
        url = said[-1].split(" at ")[1].split(" ")[0]
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            server = Server(process, client, url, said)
            yield server
    finally:
        if process.poll() is None:
            process.terminate()
        _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors, errors
    server.log = errors


class Server:
    def __init__(self, process, client, url, said):
        self.process, self.client, self.url, self.said = process, client, url, said
        self.log = ""  # what it has said on stderr, once it has ended

    def factor(self, name="scale", version=None):
        """Of the version that answers, which must be the one that the answer names."""
        at = f"/versions/{version}" if version else ""
        answer = self.client.post(f"/v2/models/{name}{at}/infer", json=body()).json()
        (y,) = answer["outputs"]
        assert y["data"][1] == 2 * y["data"][0]
        return y["data"][0]

    def admin(self, method, path, **json):
        return self.client.request(method, f"/admin/models{path}", json=json or None)

    def index(self, name="scale"):
        rows = self.admin("GET", "").json()["models"]
        return {row["version"]: row for row in rows if row["name"] == name}


def body(width=2):
    row = [1.0, 2.0] * (width // 2)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, width], "data": row}
    return {"inputs": [tensor]}


def _model(scratch, factor, width):
    made = tiny_models.save(
        scratch,
        "m",
        [("Mul", ("in:x", "factor"), ("out:y",), {})],
        [tiny_models.tensor("x", "float32", None, width)],
        [tiny_models.tensor("y", "float32", None, width)],
        [("factor", np.full(width, factor, np.float32))],
    )
    model = (made / "model.onnx").rename(scratch / "model.onnx")
    shutil.rmtree(made)
    return model


def _stored(folder):
    rows = measure_files(str(folder))
    return [{key: row[key] for key in ("path", "size", "sha256")} for row in rows]


def _manifest(folder, name, version, width):
    def bound(name, tensor):
        return {"name": name, "tensor": tensor, "dtype": "float32", "shape": [None, width]}

    def spec(name):
        return {"name": name, "dtype": "float32", "shape": [None, width]}

    artifact = {
        "format": "onnx",
        "model_format": "onnx",
        "entry": "model.onnx",
        "precision": "float32",
        "chain": ["keras", "onnx"],
        "options": {},
        "inputs": [bound("x", "in:x")],
        "outputs": [bound("y", "out:y")],
        "details": {},
        "files": measure_files(str(folder / "artifacts" / "onnx")),
        "verification": [
            {
                "runtime": "onnxruntime",
                "status": "passed",
                "samples": 2,
                "tolerance": {},
                "outputs": [COMPARED],
            }
        ],
    }
    return Manifest.model_validate(
        {
            "tools": {"pipcook-deploy": "0.1.0"},
            "spec": {
                "name": name,
                "version": version,
                "inputs": [spec("x")],
                "outputs": [spec("y")],
            },
            "source": {"name": "m.keras", "format": "keras", "sha256": "0" * 64, "details": {}},
            "recipe": {},
            "artifacts": [artifact],
            "samples": {
                "origin": "random, seed 0",
                "count": 2,
                "evaluated": 2,
                "source_runtime": "tensorflow",
                "source_accuracy": None,
                "encoded": [],
                "labels": None,
                "files": _stored(folder / "samples"),
            },
            "card": {"path": CARD, "size": 0, "sha256": ""},
        }
    )
