"""Keeps what was measured: the next start on the same machine with the same model measures nothing."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipcook_deploy import __version__
from pipcook_deploy.files import sha256
from pipcook_deploy.server.engines.cpu import cpu_name
from pipcook_deploy.server.models.options import Option
from pipcook_deploy.server.served import ServedModel

FORMAT = 1  # of the files
PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert")


def cache_key(served: ServedModel, options: list[list[Option]]) -> str:
    """Of all that a measurement depends on: model, CPU, engines, and what was to be chosen from."""
    digests = {c.artifact.format: c.digest or sha256(c.artifact.file) for c in served.candidates}
    facts = {
        "format": FORMAT,
        "program": __version__,
        "artifacts": digests,
        "cpu": cpu_name(),
        "engines": {name: _version(name) for name in PACKAGES},
        "options": [str(option) for group in options for option in group],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def kept(key: str) -> dict[str, Any] | None:
    """What was stored; None if nothing was, or it cannot be read."""
    try:
        found = json.loads((_folder() / f"{key}.json").read_bytes())
    except (OSError, ValueError, RuntimeError):
        return None
    return found if isinstance(found, dict) else None


def keep(key: str, choice: dict[str, Any]) -> None:
    """Store, whole or not at all; where nothing can be written, the next start measures again."""
    with suppress(OSError, RuntimeError):
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            try:
                json.dump(choice, file, indent=1)
                file.close()
                Path(file.name).replace(folder / f"{key}.json")
            except OSError:
                Path(file.name).unlink(missing_ok=True)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait while another process of this user measures; workers that start together would slow each other down."""
    with ExitStack() as stack:
        with suppress(OSError, RuntimeError, ImportError):
            import fcntl

            folder = _folder()
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(folder.with_suffix(".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    """Raises `RuntimeError` where the user has no home."""
    if chosen := os.environ.get("PIPCOOK_DEPLOY_HOME"):
        return Path(chosen).expanduser().absolute() / "engines"
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "pipcook-deploy" / "engines"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
