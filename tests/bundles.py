"""Small bundles for tests, written by hand."""

import numpy as np

from pipcook_deploy.bundle import CARD, MANIFEST, SUMS, Bundle, sums
from pipcook_deploy.manifest import Manifest
from pipcook_deploy.model_card import render_card
from pipcook_deploy.steps import measure_files
from pipcook_deploy.tensors import save_tensors

TENSOR = {"name": "x", "tensor": "x", "dtype": "float32", "shape": [None, 2]}
COMPARED = {
    "name": "y",
    "max_abs": 1e-7,
    "max_rel": 1e-7,
    "agreement": 1.0,
    "worst_sample": 0,
    "passed": True,
    "reason": None,
}


def write_small_bundle(folder, *, name="m", format="onnx"):
    """A bundle whose artifact is no model: enough for what only moves files."""
    place = folder / "artifacts" / format
    place.mkdir(parents=True)
    (place / "model.bin").write_bytes(b"not really a model" * 10)
    save_tensors(folder / "samples" / "inputs", {"x": np.zeros((2, 2), np.float32)})
    save_tensors(folder / "samples" / "outputs", {"y": np.ones((2, 2), np.float32)})
    manifest = _manifest(folder, name, format)
    (folder / CARD).write_text(render_card(manifest))
    card = next(row for row in _stored(folder) if row["path"] == CARD)
    manifest = manifest.model_copy(update={"card": manifest.card.model_copy(update=card)})
    (folder / MANIFEST).write_text(manifest.dump())
    (folder / SUMS).write_bytes(sums(folder))
    return Bundle.open(folder)


def _stored(folder):
    rows = measure_files(str(folder))
    return [{key: row[key] for key in ("path", "size", "sha256")} for row in rows]


def _manifest(folder, name, format):
    artifact = {
        "format": format,
        "model_format": format,
        "entry": "model.bin",
        "precision": "float32",
        "chain": ["keras", "saved_model", format],
        "options": {},
        "inputs": [TENSOR],
        "outputs": [TENSOR | {"name": "y", "tensor": "y:0"}],
        "details": {},
        "files": measure_files(str(folder / "artifacts" / format)),
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
                "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 2]}],
                "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 2]}],
                "labels": ["a", "b"],
                "notes": ["no <b>licence</b>"],
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
