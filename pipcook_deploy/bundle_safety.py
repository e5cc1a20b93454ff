"""What a bundle from a stranger may not do: reach out of its folder, or hold what is not a model.

Hashes prove that nothing changed on the way; they say nothing about who made the bundle.
"""

import os
import re
import stat
import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipcook_deploy.errors import BundleError, SourceError, UntrustedSourceError

if TYPE_CHECKING:
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.manifest import ArtifactEntry

MAX_PATH = 1024
_HINT = "do not use it: ask its maker for another"
_FORMAT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KNOWN = ("keras", "keras_h5", "saved_model", "tfjs_layers", "tfjs_graph", "onnx", "tflite")


def inside(path: str) -> str:
    """`path` if it names something below a folder on every system; `ValueError` otherwise."""
    parts = PurePosixPath(path).parts
    odd = any(character in path for character in '\\:\0"\n') or not path.isprintable()
    if not parts or odd or path.startswith("/") or ".." in parts or len(path) > MAX_PATH:
        raise ValueError(f"{path[:100]!r} is not a path inside the bundle")
    return path


def inside_or_all(path: str) -> str:
    """As `inside`; "." is the folder itself."""
    return path if path == "." else inside(path)


def folder_name(name: str) -> str:
    """`name` if it can be one folder's name; `ValueError` otherwise."""
    if not _FORMAT.fullmatch(name):
        raise ValueError(f"{name[:100]!r} is not the name of a format")
    return name


def foreign_entries(folder: Path) -> list[str]:
    """What in a folder is neither a file nor a folder: links lead out, pipes block for ever."""
    wrong = []
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "not a file"
                wrong.append(f"{path.relative_to(folder).as_posix()}: is {kind}")
    return sorted(wrong)


def check_models(bundle: "Bundle", entries: "list[ArtifactEntry]", *, trusted: bool) -> None:
    """Read each artifact as a source from a stranger is read, before a runtime runs it.

    Raises `BundleError` for one that is not what the manifest says, is incomplete, reads files outside or,
    unless `trusted`, carries code.
    """
    for entry in entries:
        if entry.model_format in _KNOWN:  # a plugin's own format is its runtime's to check
            _check_model(bundle.path, entry, trusted)


def _check_model(bundle: Path, entry: "ArtifactEntry", trusted: bool) -> None:
    from pipcook_deploy.sources import load

    file = entry.artifact(bundle).file
    with ExitStack() as stack:
        try:
            folder = tempfile.TemporaryDirectory(prefix="pipcook-deploy-")
            workdir = Path(stack.enter_context(folder))
        except FileNotFoundError:
            # A read-only container may have no place for one; what servers run is read where it is.
            workdir = bundle / "no-temporary-folder"
        try:
            found = load(file, workdir=workdir, trust_source=trusted)
        except OSError as error:
            raise BundleError(f"{file}: cannot be read: {error}", _HINT) from error
        except UntrustedSourceError as error:
            raise BundleError(error.message, error.hint) from error
        except SourceError as error:
            raise BundleError(error.message, _HINT) from error
    if found.format != entry.model_format:
        raise BundleError(f"{file}: is {found.format}, not {entry.model_format}", _HINT)
