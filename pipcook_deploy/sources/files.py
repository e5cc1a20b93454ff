"""Reading a source's files: never a device, never without a bound."""

import hashlib
import json
import mmap
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import SourceError

MAX_JSON = 256 * 1024 * 1024  # the topology of the largest graph models is tens of megabytes
HEAD = 4096
_GENERIC = {
    "", "model", "output", "saved_model", "unpacked", "keras", "work", "live", "workspace", "tfjs",
}  # fmt: skip


def kind_of(path: Path) -> str:
    """`file` or `folder`.

    Raises `SourceError` for what is missing, out of reach, or neither (a pipe would block for ever).
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise SourceError(f"{path}: there is no such file or folder", "check the path") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path}: neither a file nor a folder", "give a model's file or folder")
    return "file"


def head(path: Path) -> bytes:
    """The first bytes of a regular file."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError as error:
        raise _unreadable(path, error) from error


def view(path: Path) -> memoryview:
    """The whole content, mapped and not copied."""
    try:
        with path.open("rb") as stream:
            if path.stat().st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise _unreadable(path, error) from error


def listing(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name."""
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise _unreadable(folder, error) from error


def read_json(path: Path) -> Any:
    """A JSON file of at most `MAX_JSON` bytes."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise SourceError(f"{path}: larger than {MAX_JSON} bytes: not read as JSON")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def parse_json(data: bytes | str, where: str) -> Any:
    """JSON text; `where` names it in the error."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: not valid JSON: {error}") from error


def source_hash(files: Iterable[Path], root: Path | None) -> str:
    """sha256 over relative names and contents, sorted by name; a lone file (no root) has no name."""
    names = {"" if root is None else path.relative_to(root).as_posix(): path for path in files}
    digest = hashlib.sha256()
    for name in sorted(names):
        try:
            with names[name].open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            raise _unreadable(names[name], error) from error
        digest.update(name.encode(errors="surrogateescape") + b"\0" + content)
    return digest.hexdigest()


def model_name(*candidates: str) -> str:
    """The first candidate that says something, in letters that fit a URL."""
    for candidate in candidates:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", candidate).strip("-.")
        if name.lower() not in _GENERIC and not name.isdigit():
            return name[:100]
    return "model"


def _unreadable(path: Path, error: OSError | ValueError) -> SourceError:
    reason = getattr(error, "strerror", None) or str(error)
    return SourceError(f"{path}: cannot be read: {reason}", "check the path and its permissions")
