"""Small splits for tests of compression."""

import hashlib
import json
from pathlib import Path

import numpy as np

from pipcook_deploy.data.split import ORIGINS, TARGETS, Split
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.tensors import save_tensors


def make_split(
    folder: Path, inputs: Tensors, targets: np.ndarray | None, name: str = "train"
) -> Split:
    """Write a split below `folder`."""
    save_tensors(folder / "inputs", inputs)
    digest = hashlib.sha256()
    for value in inputs.values():
        digest.update(value.tobytes())
    if targets is not None:
        np.save(folder / TARGETS, targets)
        digest.update(targets.tobytes())
    count = len(next(iter(inputs.values())))
    (folder / ORIGINS).write_text(json.dumps([f"row {i}" for i in range(count)]))
    return Split(name, folder, count, digest.hexdigest())
