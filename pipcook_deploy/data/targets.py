"""What is right, in the form that metrics take: class positions, numbers, or objects."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import UsageError
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.text import did_you_mean

TargetKind = Literal["class", "numbers", "objects"]


def target_kind(spec: ModelSpec, whole: bool) -> TargetKind:
    """What targets of this model are; `whole` says that they are names or one whole number each.

    A tabular or unknown model tells classes when it has labels, or several scores and whole targets.
    """
    if spec.task == "object-detection":
        return "objects"
    if spec.task in ("image-classification", "text-classification") or spec.labels:
        return "class"
    if spec.task == "image-to-image":
        return "numbers"
    return "class" if whole and (_width(spec) or 0) > 1 else "numbers"


def class_count(spec: ModelSpec) -> int | None:
    """How many classes there are; an output of one column has two. None: the model does not say."""
    if spec.labels:
        return len(spec.labels)
    return 2 if _width(spec) == 1 else _width(spec)


def class_position(label: object, spec: ModelSpec, where: str) -> int:
    """The position of a class given by its name or its position; `UsageError` naming what is near."""
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    if isinstance(label, str):
        name = label.strip()
        if name in spec.labels:
            return spec.labels.index(name)
        if not _is_number(name):
            raise UsageError(
                f"{where}: {name!r} is not one of the model's labels{did_you_mean(name, spec.labels)}",
                f"the labels are {_some(spec.labels)}" if spec.labels else "give positions, from 0",
            )
        label = float(name)
    number = float(np.asarray(label, np.float64))
    count = class_count(spec)
    if number != np.floor(number) or number < 0 or (count is not None and number >= count):
        last = "" if count is None else f", 0 to {count - 1}"
        raise UsageError(f"{where}: the label {number:g} is not the position of a class{last}")
    return int(number)


def class_positions(values: NDArray[Any], spec: ModelSpec, where: str) -> NDArray[Any]:
    """Class positions of an array of names, positions [n], [n, 1], or one-hot rows [n, classes]."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.shape[1] == class_count(spec) and values.dtype.kind in "biuf":
        _check_one_hot(values, where)
        winners: NDArray[Any] = np.asarray(values).argmax(axis=1).astype(np.int64)
        return winners
    if values.ndim != 1:
        raise UsageError(f"{where}: labels {list(values.shape)} are not one class for each sample")
    distinct, inverse = np.unique(np.asarray(values), return_inverse=True)
    found = [class_position(label, spec, where) for label in distinct.tolist()]
    return np.array(found, np.int64)[inverse.reshape(-1)]


def _check_one_hot(values: NDArray[Any], where: str) -> None:
    if not np.allclose(np.asarray(values, np.float64).sum(axis=1), 1, atol=1e-3):
        raise UsageError(
            f"{where}: labels {list(values.shape)} are neither classes nor one-hot rows"
        )


def _width(spec: ModelSpec) -> int | None:
    shape = spec.outputs[0].shape if spec.outputs else ()
    return shape[-1] if shape else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _some(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
