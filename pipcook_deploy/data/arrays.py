"""Samples in arrays: rows of memory-mapped files, or of what a Python caller has in memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.source import Sample, Source
from pipcook_deploy.data.targets import class_count, class_positions, target_kind
from pipcook_deploy.errors import UsageError
from pipcook_deploy.spec import ModelSpec

LABELS = ("label", "labels", "y", "target", "targets")


class ArraySource(Source):
    """One row of each array is a sample. `where` is what an error names."""

    def __init__(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, Any],
        targets: Any | None,
        origin: str,
        where: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.origin, self.notes, self._inputs = origin, notes, inputs
        lengths = {name: len(value) for name, value in inputs.items()}
        lengths |= {} if targets is None else {"the labels": len(targets)}
        if len(set(lengths.values())) != 1:
            said = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise UsageError(f"{where}: arrays of different lengths: {said}")
        self.unlabelled = "no array of labels (a second file: [data] evaluation_labels)"
        self._count = next(iter(lengths.values()))
        self.kind = None if targets is None else target_kind(spec, _whole(targets, spec))
        if self.kind == "objects":
            raise UsageError(
                f"{where}: arrays have no boxes", "give COCO or Pascal VOC annotations"
            )
        self._targets = targets
        if targets is not None and self.kind == "class":
            self._targets = class_positions(targets, spec, where)

    def __len__(self) -> int:
        return self._count

    def read(self, number: int) -> Sample:
        """One row of every array."""
        rows = {name: _row(value, number) for name, value in self._inputs.items()}
        if self._targets is None:
            return Sample(rows)
        target = self._targets[number]
        return Sample(rows, int(target) if self.kind == "class" else np.asarray(target))

    def name(self, number: int) -> str:
        """The array's file and the row."""
        return f"{self.origin}[{number}]"

    def classes(self) -> NDArray[Any] | None:
        """The class of every row."""
        return self._targets if self.kind == "class" else None


def chosen_arrays(
    arrays: Mapping[str, Any], spec: ModelSpec, label: str, where: str
) -> tuple[dict[str, Any], Any | None]:
    """The model's inputs and the labels among named arrays.

    Inputs go by the model's names; a model with one input takes the one array that is left. Labels are called
    `label`, or as labels usually are, or are the one array that is no input.
    """
    names = [tensor.name for tensor in spec.inputs]
    rest = {name: value for name, value in arrays.items() if name not in names}
    called = next((name for name in (label, *LABELS) if name in rest), None)
    targets = None if called is None else rest.pop(called)
    missing = [name for name in names if name not in arrays]
    if len(names) == 1 and missing and len(rest) == 1:
        return {names[0]: rest.popitem()[1]}, targets
    if missing:
        raise UsageError(
            f"{where}: no array called {missing[0]!r} (found: {', '.join(arrays)})",
            f"name the arrays as the model names its inputs: {', '.join(names)}",
        )
    if targets is None and len(rest) == 1:
        targets = rest.popitem()[1]
    return {name: arrays[name] for name in names}, targets


def _whole(targets: Any, spec: ModelSpec) -> bool:
    """Names, or one whole number each, or one-hot rows of them."""
    value = np.asarray(targets[:1])
    if value.dtype.kind in "USO":
        return True
    if value.dtype.kind not in "biu":
        return False
    return value.ndim == 1 or (value.ndim == 2 and value.shape[1] in (1, class_count(spec)))


def _row(values: Any, number: int) -> object:
    row = values[number]
    if isinstance(row, str | bytes):
        return row
    if isinstance(row, np.generic) and row.dtype.kind in "US":
        return row.item()
    return np.array(row)
