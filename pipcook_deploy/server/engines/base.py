"""The interface of an engine."""

from typing import Any, Protocol

from pipcook_deploy.artifact import Binding
from pipcook_deploy.runtime import Tensors


class Engine(Protocol):
    """Runs one artifact."""

    name: str
    platform: str  # as the Open Inference Protocol spells it: project_format
    threads: int  # of one inference; 0: the engine's own choice
    concurrent: bool  # whether `run` may be called from several threads at once

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names, for all inputs by the spec's names. Raises `InferenceError`."""


def as_bound(value: Any, binding: Binding) -> Any:
    """The array in the element type that the artifact takes."""
    if binding.dtype == "string":
        return value
    return value.astype(binding.dtype, copy=False)
