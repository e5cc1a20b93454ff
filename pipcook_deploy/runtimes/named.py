"""Pairs tensors by name: what an artifact or a source is fed, and what it answers."""

from collections.abc import Iterable
from pathlib import Path

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import SourceError
from pipcook_deploy.runtime import Tensors


def check_inputs(path: Path, wanted: Iterable[str], inputs: Tensors) -> None:
    """Raises `SourceError` unless there are values for the wanted inputs, and for no other."""
    names = list(wanted)
    if missing := [name for name in names if name not in inputs]:
        raise SourceError(f"{path}: no samples for the input {', '.join(missing)}")
    if unknown := [name for name in inputs if name not in names]:
        raise SourceError(
            f"{path}: has no input {', '.join(unknown)} (it has {', '.join(names) or 'none'})"
        )


def native_inputs(artifact: Artifact, inputs: Tensors) -> Tensors:
    """Inputs by the spec's names -> by the names that the format's runtime knows."""
    check_inputs(artifact.file, [binding.name for binding in artifact.inputs], inputs)
    return {binding.tensor: inputs[binding.name] for binding in artifact.inputs}


def spec_outputs(artifact: Artifact, results: Tensors) -> Tensors:
    """The inverse, for outputs. Raises `SourceError` for a binding to what is not there."""
    if unknown := [b.tensor for b in artifact.outputs if b.tensor not in results]:
        raise SourceError(f"{artifact.file}: has no output called {', '.join(unknown)}")
    return {binding.name: results[binding.tensor] for binding in artifact.outputs}
