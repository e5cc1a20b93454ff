"""Tells what a file or folder is, by its content."""

import pickletools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import SourceError, UntrustedSourceError
from pipcook_deploy.formats.onnx_file import looks_like_onnx
from pipcook_deploy.formats.tflite_file import is_tflite
from pipcook_deploy.sources import archive, files, weights_h5
from pipcook_deploy.sources.keras_source import is_keras_archive
from pipcook_deploy.sources.pipcook import bayes_error, is_bayes

KNOWN = "a model is one of: Pipcook workspace, TF.js, .keras, .h5, SavedModel, ONNX, TFLite"
_MAX_OPCODES = 10_000
_PB_NAME = "saved_model.pb"


@dataclass(frozen=True)
class Found:
    """A model's place. `kind`: keras_zip, h5, tfjs, saved_model, onnx, tflite, zip."""

    kind: str
    path: Path


def sniff_file(path: Path) -> Found:
    """What a regular file is. Raises `SourceError`, saying what it is instead of a model."""
    head = files.head(path)
    if not head:
        raise SourceError(f"{path}: the file is empty", KNOWN)
    if head.startswith(weights_h5.MAGIC):
        return Found("h5", path)
    if is_tflite(head):
        return Found("tflite", path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Found(_zip_kind(path), path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return Found(_json_kind(path), path)
    _refuse_others(path, head)
    if path.name == _PB_NAME or _is_saved_model(head):
        if path.name != _PB_NAME:
            raise SourceError(
                f"{path}: a SavedModel's graph under another name",
                f"give its folder, with {_PB_NAME} and variables/ in it",
            )
        return Found("saved_model", path.parent)
    if looks_like_onnx(head):
        return Found("onnx", path)
    raise SourceError(f"{path}: not a model: its content is of no kind that is known", KNOWN)


def sniff_folder(folder: Path, depth: int = 0) -> Found:
    """The one model in a folder, or in its `model/` or only other folder with one.

    Raises `SourceError` when there is none, or several.
    """
    if (folder / _PB_NAME).is_file():
        return Found("saved_model", folder)
    found: list[Found] = []
    refused: list[SourceError] = []
    entries = files.listing(folder)
    for path in entries:
        if path.is_file() and not path.name.startswith("."):
            _try(path, found, refused)
    if len(found) > 1:
        names = ", ".join(item.path.name for item in found)
        raise SourceError(f"{folder}: holds several models: {names}", "give one of these files")
    if found:
        return found[0]
    if refused:
        raise refused[0]
    if depth == 0:
        return _below(folder, [path for path in entries if path.is_dir()])
    raise SourceError(f"{folder}: holds no model", KNOWN)


def _below(folder: Path, folders: list[Path]) -> Found:
    inner = [path for path in folders if path.name == "model"] or folders
    found: list[Found] = []
    for path in inner:
        try:
            found.append(sniff_folder(path, 1))
        except SourceError as error:
            nothing = "holds no model" in error.message or "cannot be read" in error.message
            if not nothing:
                raise
    if len(found) > 1:
        names = ", ".join(item.path.relative_to(folder).as_posix() for item in found)
        raise SourceError(f"{folder}: holds several models: {names}", "give one of them")
    if not found and (folder / "manifest.json").is_file() and (folder / "artifacts").is_dir():
        raise SourceError(
            f"{folder}: is a bundle, and no model",
            "run: pipcook-deploy verify BUNDLE, or give one of its artifacts",
        )
    if not found:
        raise SourceError(f"{folder}: holds no model", KNOWN)
    return found[0]


def _try(path: Path, found: list[Found], refused: list[SourceError]) -> None:
    """Sort a file of a folder: a model, something to refuse aloud, or beside the point."""
    head = files.head(path)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"{", b"[")) and not _speaks_of_a_model(path):
        return
    try:
        found.append(sniff_file(path))
    except SourceError as error:
        if (
            isinstance(error, UntrustedSourceError)
            or "Bayes" in error.message
            or any(word in error.message for word in ("truncated", "without", "weights", "JSON"))
        ):
            refused.append(error)


def _speaks_of_a_model(path: Path) -> bool:
    if path.name == "model.json":
        return True
    if path.stat().st_size > files.MAX_JSON:
        return False
    data = path.read_bytes()
    return b'"weightsManifest"' in data or b'"conditionProb"' in data


def _zip_kind(path: Path) -> str:
    with archive.opened(path) as zipped:
        names = set(zipped.namelist())
    if is_keras_archive(names):
        return "keras_zip"
    if any(name.rsplit("/", 1)[-1] == "data.pkl" for name in names):
        raise UntrustedSourceError(
            f"{path}: a PyTorch file, which is a pickle: opening it would run its code",
            "export it from PyTorch: torch.onnx.export(model, inputs, 'model.onnx')",
        )
    if names and all(name.endswith(".npy") for name in names):
        raise SourceError(f"{path}: numpy arrays: weights without a topology", KNOWN)
    return "zip"


def _json_kind(path: Path) -> str:
    data: Any = files.read_json(path)
    if is_bayes(data):
        raise bayes_error(path)
    if isinstance(data, dict) and ("modelTopology" in data or "weightsManifest" in data):
        return "tfjs"
    if _is_manifest(data):
        raise SourceError(f"{path}: a weights manifest: weights without a topology", KNOWN)
    if isinstance(data, dict) and {"class_name", "config"} <= data.keys():
        raise SourceError(f"{path}: a topology without weights", "save the whole model")
    if isinstance(data, dict) and "specVersion" in data and "dataflow" in data:
        raise SourceError(
            f"{path}: a Pipcook pipeline, not a model", "give the workspace that its run made"
        )
    raise SourceError(f"{path}: JSON, but not the model.json of a TF.js model", KNOWN)


def _is_manifest(data: Any) -> bool:
    return isinstance(data, list) and any(isinstance(g, dict) and "weights" in g for g in data)


def _refuse_others(path: Path, head: bytes) -> None:
    proto = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if proto or _is_old_pickle(path):
        raise UntrustedSourceError(
            f"{path}: a pickle: opening it would run its code",
            "export the model from the program that made it, to ONNX if it can",
        )
    if (
        head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd"))
        or head[257:262] == b"ustar"
    ):
        raise SourceError(
            f"{path}: a compressed file or tar archive", "unpack it and give what is in it"
        )
    if head.startswith(b"\x93NUMPY"):
        raise SourceError(f"{path}: a numpy array: weights without a topology", KNOWN)
    if 2 < int.from_bytes(head[:8], "little") < (1 << 30) and head[8:10] == b'{"':
        raise SourceError(f"{path}: safetensors: weights without a topology", KNOWN)
    if head.lstrip()[:9].lower() in (b"<!doctype", b"<html") or head.lstrip()[:5] == b"<html":
        raise SourceError(
            f"{path}: a web page: the download went wrong", "download the model again"
        )


def _is_old_pickle(path: Path) -> bool:
    """Protocols 0 and 1 have no mark: the opcodes are read, and none is run."""
    count = 0
    try:
        with path.open("rb") as stream:
            for _ in pickletools.genops(stream):
                count += 1
                if count > _MAX_OPCODES:
                    return True
    except (ValueError, struct.error, LookupError, EOFError, OverflowError, MemoryError):
        return False
    return count > 2


def _is_saved_model(head: bytes) -> bool:
    # schema version 1, then a MetaGraphDef (field 2, more than a producer's name) with MetaInfoDef.
    if head[:3] != b"\x08\x01\x12":
        return False
    at = 3
    while at < min(len(head), 13) and head[at] & 0x80:
        at += 1
    return head[at + 1 : at + 2] == b"\x0a"
