"""Models that TF.js itself made, with the answers that it gives."""

import json
from pathlib import Path

import numpy as np

from pipcook_deploy.model import Model
from pipcook_deploy.run import run
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec, TensorSpec
from pipcook_deploy.tools import find_node, node_packages

NAMES = ("convolutions", "nested", "text", "several")


def make_all(into: Path) -> Path:
    """Make every model of `NAMES` below `into`."""
    script = Path(__file__).with_name("tfjs_models.mjs")
    run([find_node(), script, node_packages(), into], timeout=120)
    return into


def tensors(folder: Path, kind: str) -> Tensors:
    """`inputs` or `outputs` as TF.js had them, in the model's order."""
    rows = json.loads((folder / f"{kind}.json").read_text())
    return {r["name"]: np.array(r["values"], r["dtype"]).reshape(r["shape"]) for r in rows}


def model(folder: Path) -> Model:
    """The model as a source."""

    def specs(kind: str) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=name, dtype=value.dtype.name, shape=(None, *value.shape[1:]))
            for name, value in tensors(folder, kind).items()
        )

    spec = ModelSpec(name=folder.name, inputs=specs("inputs"), outputs=specs("outputs"))
    return Model(path=folder / "model.json", format="tfjs_layers", spec=spec)
