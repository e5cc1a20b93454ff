"""Sources that are in the wanted format already: copied, every byte as it is."""

import shutil
from pathlib import Path

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.model import Model
from pipcook_deploy.spec import Details, TensorSpec

PRECISION = (
    "source"  # whatever the file has inside; held to the tolerance of float32: it is the same file
)


def keep(
    model: Model, into: Path, entry: str, *, external: tuple[str, ...] = (), details: Details
) -> Artifact:
    """Copy a model of one file to `into / entry`; its tensors are called what the spec calls them.

    `external` are further files, relative to the model's folder. Raises `ConversionError` if one of them is
    not below it.
    """
    root = model.path.resolve().parent
    for name in external:
        source = (root / name).resolve()
        if not source.is_relative_to(root) or name == entry:
            raise ConversionError(
                f"{model.path}: the external file {name!r} cannot be copied along"
            )
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, into / name)
    shutil.copyfile(model.path, into / entry)
    return Artifact(
        model.format,
        model.format,
        into,
        entry,
        _bindings(model.spec.inputs),
        _bindings(model.spec.outputs),
        precision=PRECISION,
        details={"kept": True} | details,
    )


def _bindings(tensors: tuple[TensorSpec, ...]) -> tuple[Binding, ...]:
    return tuple(Binding(spec.name, spec.name, spec.dtype, spec.shape) for spec in tensors)
