"""Pictures in folders that are called as the classes are."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.data.source import BadSampleError, Sample, Source
from pipcook_deploy.data.targets import class_count, target_kind
from pipcook_deploy.errors import UsageError
from pipcook_deploy.samples import as_folder, image_files
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.text import did_you_mean


class ImageFolder(Source):
    """Every picture below a folder; the first folder on its way down is its class.

    Raises `UsageError` for a folder that is no label, or has no pictures.
    """

    parallel = True

    def __init__(self, spec: ModelSpec, folder: Path) -> None:
        self.origin, self._folder = f"images: {folder.name}", folder
        self._input = picture_input(spec, folder)
        self._files = image_files(folder)
        if not self._files:
            raise UsageError(f"{folder}: no pictures in it")
        names = [path.relative_to(folder).parts[0] for path in self._files]
        flat = [
            path.name for path, name in zip(self._files, names, strict=True) if name == path.name
        ]
        self.kind, self._classes = None, None
        self.unlabelled = "the pictures are not in folders of classes"
        if not flat:
            if target_kind(spec, whole=True) != "class":
                raise UsageError(
                    f"{folder}: folders are classes, but a model for {spec.task} has none",
                    "give what is right as .npz, or from Python",
                )
            self.kind = "class"
            self._classes = self._positions(spec, names)
        elif len(flat) != len(names):
            raise UsageError(
                f"{folder}: {flat[0]} lies beside the folders of classes",
                "put every picture into the folder of its class",
            )

    def __len__(self) -> int:
        return len(self._files)

    def read(self, number: int) -> Sample:
        """The file's bytes."""
        try:
            content = self._files[number].read_bytes()
        except OSError as error:
            raise BadSampleError(f"cannot be read: {error.strerror}") from error
        return Sample(
            {self._input: content},
            None if self._classes is None else int(self._classes[number]),
        )

    def name(self, number: int) -> str:
        """The file, from the folder on."""
        return self._files[number].relative_to(self._folder.parent).as_posix()

    def classes(self) -> NDArray[Any] | None:
        """By folder."""
        return self._classes

    def _positions(self, spec: ModelSpec, names: list[str]) -> NDArray[Any]:
        found = sorted(set(names))
        self._check_empty(found)
        places = {as_folder(label): number for number, label in enumerate(spec.labels)}
        if not places:
            places = self._by_name(spec, found)
        unknown = [name for name in found if name not in places]
        if unknown:
            raise UsageError(
                f"{self._folder / unknown[0]}: {unknown[0]!r} is not one of the model's labels"
                + did_you_mean(unknown[0], places),
                f"the labels are {', '.join(list(places)[:10])}{', ...' if len(places) > 10 else ''}",
            )
        return np.array([places[name] for name in names], np.int64)

    def _check_empty(self, found: list[str]) -> None:
        folders = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
        empty = [name for name in folders if name not in found and not name.startswith((".", "_"))]
        if empty:
            raise UsageError(
                f"{self._folder / empty[0]}: the class has no pictures",
                "add some, or remove the folder",
            )

    def _by_name(self, spec: ModelSpec, found: list[str]) -> dict[str, int]:
        """Without labels: folders in the order of their names, as Keras does."""
        count = class_count(spec)
        if count is not None and count != len(found):
            raise UsageError(
                f"{self._folder}: {len(found)} folders, but the model has {count} classes and no labels",
                "give the labels in the recipe: [model] labels",
            )
        self.notes = (f"the model has no labels: classes are {', '.join(found[:10])}, by name",)
        return {name: number for number, name in enumerate(found)}


def picture_input(spec: ModelSpec, where: Path) -> str:
    """The input that takes pictures; `UsageError` when the model has none."""
    for name, operations in spec.preprocessing.items():
        if operations and operations[0].op == "decode" and len(spec.inputs) == 1:
            return name
    raise UsageError(
        f"{where}: pictures need a model with one input whose preprocessing starts with decode",
        "add [[model.preprocessing]] tables to the recipe, or give the tensors as .npz",
    )
