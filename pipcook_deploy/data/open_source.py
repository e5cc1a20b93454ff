"""Which reader a path needs: told by what is there."""

from pathlib import Path

from pipcook_deploy.data.array_files import is_array_file, open_arrays
from pipcook_deploy.data.csv_file import CsvFile
from pipcook_deploy.data.detection_folder import DetectionFolder
from pipcook_deploy.data.image_folder import ImageFolder
from pipcook_deploy.data.options import DataOptions
from pipcook_deploy.data.source import Source
from pipcook_deploy.errors import UsageError
from pipcook_deploy.spec import ModelSpec

# Pipcook's dataset folders: which part serves which role, best first.
PARTS = {
    "evaluation": ("test", "validation"),
    "train": ("train",),
    "calibration": ("validation", "train"),
}
TABLES = (".csv", ".tsv")


def open_source(
    spec: ModelSpec, path: Path, labels: Path | None, options: DataOptions, scratch: Path
) -> Source:
    """The samples of a path. Raises `UsageError` when it is nothing that is read, naming it."""
    for each in (path, labels):
        if each is not None and not each.exists():
            raise UsageError(
                f"[data] {each} does not exist",
                "name a file or folder; paths start at the recipe's folder",
            )
    if labels is not None and not (path.is_file() and is_array_file(path)):
        raise UsageError(
            f"[data] {labels}: is for .npy and idx files, which have no labels in them; {path} is none",
            "leave the file of labels out, or name an .npy or idx file",
        )
    try:
        if spec.task == "object-detection":
            return DetectionFolder(spec, path)
        if path.is_dir():
            return _open_folder(spec, path, options)
        if path.suffix.lower() in TABLES:
            return CsvFile(spec, path, options.label, options.columns)
        if is_array_file(path):
            return open_arrays(spec, path, labels, options.label, scratch)
    except PermissionError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    raise UsageError(
        f"{path}: is not data that can be read",
        "give a folder of pictures by class, .npz, .npy, .csv, idx, COCO or Pascal VOC annotations",
    )


def part_of(path: Path, role: str, spec: ModelSpec) -> Path:
    """The part of a Pipcook dataset folder that serves a role; any other path as it is.

    Such a folder has `train`, `test` or `validation` in it, or in the only folder in it, or in `annotations`, unless these are
    labels of the model.
    """
    if not path.is_dir():
        return path
    for folder in (path, *_only_folder(path), path / "annotations"):
        parts = {
            name: folder / name
            for name in ("train", "test", "validation")
            if (folder / name).is_dir() and name not in spec.labels
        }
        if parts:
            found = next((parts[name] for name in PARTS[role] if name in parts), None)
            if found is None:
                raise UsageError(
                    f"{folder}: has {' and '.join(parts)}, but not {' or '.join(PARTS[role])}, which [data] "
                    f"{role} needs",
                    "give the path of the part that is meant",
                )
            return found
    return path


def _only_folder(path: Path) -> list[Path]:
    entries = [entry for entry in path.iterdir() if not entry.name.startswith((".", "__"))]
    return entries if len(entries) == 1 and entries[0].is_dir() else []


def _open_folder(spec: ModelSpec, path: Path, options: DataOptions) -> Source:
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in TABLES)
    if len(tables) > 1:
        raise UsageError(
            f"{path}: several tables: {', '.join(file.name for file in tables[:4])}",
            "give the path of one of them",
        )
    if tables:
        return CsvFile(spec, tables[0], options.label, options.columns)
    return ImageFolder(spec, path)
