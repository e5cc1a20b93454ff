"""Accuracy of artifacts, found without the code that a search judges with."""

import gzip
import tempfile
from pathlib import Path

import numpy as np

from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.tensors import load_tensors, save_tensors
from tests.fashion import DATA


def labelled_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The last `count` of the 10,000: uint8 [n, 28, 28], and their classes."""
    images = np.frombuffer(gzip.decompress(DATA["evaluation"].read_bytes()), np.uint8, offset=16)
    classes = np.frombuffer(
        gzip.decompress(DATA["evaluation_labels"].read_bytes()), np.uint8, offset=8
    )
    return images.reshape(-1, 28, 28)[-count:], classes[-count:]


def accuracy(bundle, format: str, inputs: np.ndarray, classes: np.ndarray) -> float:
    """Share of right answers of the artifact that a bundle has of a format."""
    artifact = bundle.artifact(format).to_json()
    heavy = artifact["model_format"] == "saved_model"
    with tempfile.TemporaryDirectory() as scratch, Workers(Path(scratch)) as workers:
        given, told = Path(scratch) / "given", Path(scratch) / "told"
        save_tensors(given, {artifact["inputs"][0]["name"]: inputs})
        workers.call(
            "pipcook_deploy.compression.judging:answer_artifact",
            {"artifact": artifact, "inputs": str(given), "outputs": str(told)},
            heavy=heavy,
        )
        scores = next(iter(load_tensors(told).values()))
    return float((scores.argmax(axis=-1) == classes).mean())
