""".npz, .npy and idx files, also packed, mapped into memory instead of read."""

import gzip
import shutil
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from pipcook_deploy.data.arrays import ArraySource, chosen_arrays
from pipcook_deploy.data.writer import writing
from pipcook_deploy.errors import UsageError
from pipcook_deploy.spec import ModelSpec

# The third byte of an idx file -> the type of its numbers, big-endian.
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
BROKEN = (OSError, EOFError, ValueError, BadZipFile, zlib.error)


def open_arrays(
    spec: ModelSpec, path: Path, labels: Path | None, label: str, scratch: Path
) -> ArraySource:
    """The samples of an array file; `labels` is the file with what is right, if it is another one.

    What is packed is unpacked below `scratch`. Raises `UsageError` naming the file.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    notes: tuple[str, ...] = ()
    arrays = _named_arrays(path, scratch / "inputs")
    inputs, targets = _chosen(arrays, spec, label, path)
    beside = labels or (None if targets is not None else _beside(path))
    if beside is not None:
        targets = _only(_named_arrays(beside, scratch / "labels"), beside)
        notes = () if labels else (f"labels: {beside.name}, found beside {path.name}",)
    return ArraySource(spec, inputs, targets, path.name, str(path), notes)


def is_array_file(path: Path) -> bool:
    """Whether the content is that of .npz, .npy or idx."""
    return _kind(path) is not None


def _chosen(arrays: dict[str, Any], spec: ModelSpec, label: str, path: Path) -> tuple[Any, Any]:
    if list(arrays) != [""]:
        return chosen_arrays(arrays, spec, label, str(path))
    if len(spec.inputs) != 1:
        names = ", ".join(tensor.name for tensor in spec.inputs)
        raise UsageError(f"{path}: one array, but the model has the inputs {names}", "give an .npz")
    return {spec.inputs[0].name: arrays[""]}, None


def _only(arrays: dict[str, Any], path: Path) -> Any:
    if len(arrays) != 1:
        raise UsageError(f"{path}: {len(arrays)} arrays where one with labels is expected")
    return next(iter(arrays.values()))


def _named_arrays(path: Path, scratch: Path) -> dict[str, Any]:
    """By name; the only array of a file without names is called ""."""
    try:
        kind = _kind(path)
        if kind == "npz":
            return _from_npz(path, scratch)
        if kind == "npy":
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        if kind is not None:
            return {"": _from_idx(path, kind == "idx.gz", scratch)}
    except BROKEN as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    raise UsageError(f"{path}: is neither .npz, .npy nor idx")


def _kind(path: Path) -> str | None:
    with path.open("rb") as stream:
        head = stream.read(6)
    if head == b"\x93NUMPY":
        return "npy"
    if head[:2] == b"PK":
        return "npz"
    if head[:2] == b"\x1f\x8b":
        return "idx.gz"
    return "idx" if head[:2] == b"\0\0" and len(head) > 3 and head[2] in IDX_TYPES else None


def _from_npz(path: Path, scratch: Path) -> dict[str, Any]:
    found = {}
    with ZipFile(path) as archive:
        for number, member in enumerate(archive.namelist()):
            unpacked = scratch / f"{number}.npy"
            with archive.open(member) as packed:
                _unpack(packed, unpacked)
            found[member.removesuffix(".npy")] = np.load(
                unpacked, mmap_mode="r", allow_pickle=False
            )
    return found


def _from_idx(path: Path, packed: bool, scratch: Path) -> Any:
    if packed:
        unpacked = scratch / "0.idx"
        with gzip.open(path) as stream:
            _unpack(stream, unpacked)
        if _kind(unpacked) != "idx":
            raise ValueError("what is packed is not idx")
        path = unpacked
    with path.open("rb") as stream:
        head = stream.read(4)
        shape = np.frombuffer(stream.read(4 * head[3]), ">u4").astype(np.int64).tolist()
    dtype = np.dtype(IDX_TYPES[head[2]])
    start = 4 + 4 * head[3]
    missing = start + int(np.prod(shape)) * dtype.itemsize - path.stat().st_size
    if len(shape) != head[3] or missing > 0:
        raise ValueError(f"{shape} is announced, but {missing} bytes are missing")
    return np.memmap(path, dtype, "r", start, tuple(shape))


def _unpack(packed: Any, path: Path) -> None:
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 20)


def _beside(path: Path) -> Path | None:
    """The labels of `train-images-idx3-ubyte` are in `train-labels-idx1-ubyte`."""
    if "images" not in path.name:
        return None
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    names = (name, name.removesuffix(".gz"), f"{name}.gz")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
