"""Saved Keras models as sources, with inputs and the answers of the model that was saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipcook_deploy.keras_io import call_keras, interface_names
from pipcook_deploy.model import Model
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec, TensorSpec
from tests import zoo


@dataclass(frozen=True)
class Made:
    """A source, some inputs, and what it answers them."""

    model: Model
    inputs: Tensors
    outputs: Tensors


def save(live: Any, folder: Path, samples: int = 3) -> Made:
    """Save a live Keras 2 or 3 model below `folder`; the names are those of its layers."""
    legacy = type(live).__module__.startswith("tf_keras")
    path = folder / f"{live.name}{'.h5' if legacy else '.keras'}"
    live.save(path)
    inputs = zoo.sample_inputs(live, samples)
    ins, outs = interface_names(live)
    values = call_keras(live, [inputs[name] for name in ins])
    outputs = {name: np.asarray(value) for name, value in zip(outs, values, strict=True)}
    spec = spec_of(inputs, outputs, live.name)
    return Made(Model(path, "keras_h5" if legacy else "keras", spec), inputs, outputs)


def spec_of(inputs: Tensors, outputs: Tensors, name: str = "model") -> ModelSpec:
    """The spec of a model with a dynamic batch axis."""
    return ModelSpec(name=name, inputs=_specs(inputs), outputs=_specs(outputs))


def largest_difference(found: Tensors, expected: Tensors) -> float:
    """Over all outputs, which must be the same ones."""
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - value).max()) for name, value in expected.items())


def _specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, dtype=value.dtype.name, shape=(None, *value.shape[1:]))
        for name, value in tensors.items()
    )
