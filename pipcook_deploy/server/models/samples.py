"""Inputs to measure a model with: golden ones, or made up where there are none."""

from typing import Any

import numpy as np

from pipcook_deploy.artifact import Binding
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.models.golden import group
from pipcook_deploy.server.served import Candidate
from pipcook_deploy.server.tensors.datatypes import array_type
from pipcook_deploy.tensors import load_tensors


def samples(candidate: Candidate, count: int) -> Tensors:
    """`count` samples, the same ones again when there are fewer; as many as the model takes at once."""
    size, exact = group(candidate.artifact)
    count = size if exact else count
    if candidate.golden is None:
        return {b.name: _made_up(b, count) for b in candidate.artifact.inputs}
    golden = load_tensors(candidate.golden.inputs, count)
    return {name: np.resize(value, (count, *value.shape[1:])) for name, value in golden.items()}


def elements(inputs: Tensors) -> int:
    """Of all inputs together."""
    return sum(value.size for value in inputs.values())


def _made_up(tensor: Binding, count: int) -> Any:
    """Numbers from 0 to 1, whole ones all 0, no text: what few models refuse."""
    shape = [size or (count if axis == 0 else 1) for axis, size in enumerate(tensor.shape)]
    if tensor.dtype == "string":
        return np.full(shape, "", dtype=object)
    values = np.zeros(shape, array_type(tensor.dtype))
    if tensor.dtype.startswith(("float", "bfloat")):
        values[...] = np.linspace(0, 1, values.size).reshape(shape)
    return values
