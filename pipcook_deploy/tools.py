"""Programs beside Python: Node with the TF.js packages, and the isolated reference converter.

They live in PIPCOOK_DEPLOY_HOME, or else in `share/pipcook-deploy` of the environment that this package is
installed in, or else (where that is read-only) in the user's data folder. Nothing is installed unless
the user runs `pipcook-deploy setup`.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from importlib.resources import as_file, files
from pathlib import Path

from pipcook_deploy.errors import DeployError, MissingDependencyError
from pipcook_deploy.run import run

MINIMUM_NODE = 20
SETUP_NODE = "run: pipcook-deploy setup node"
SETUP_REFERENCE = "run: pipcook-deploy setup tensorflowjs"

_MARK = ".complete"  # holds the digest of what was asked for; written last
_NODE, _REFERENCE = "node", "tensorflowjs"


class SetupError(DeployError):
    """A tool could not be installed."""

    exit_code = MissingDependencyError.exit_code


def homes() -> list[Path]:
    """Folders that may hold the tools, the preferred one first."""
    if chosen := os.environ.get("PIPCOOK_DEPLOY_HOME"):
        return [Path(chosen).expanduser().absolute()]
    return [Path(sys.prefix, "share", "pipcook-deploy"), _user_data() / "pipcook-deploy"]


def find_node() -> Path:
    """The `node` program, version 20 or newer; the environment variable NODE names another one."""
    found = shutil.which(os.environ.get("NODE") or "node")
    hint = f"install Node {MINIMUM_NODE} or newer (https://nodejs.org), then {SETUP_NODE}"
    if found is None:
        raise MissingDependencyError("TF.js models are run in Node, which is not installed", hint)
    version = run([found, "--version"], timeout=30, failure=MissingDependencyError).strip()
    major = version.removeprefix("v").split(".")[0]
    if not major.isdecimal() or int(major) < MINIMUM_NODE:
        raise MissingDependencyError(f"{found} is Node {version}: too old", hint)
    return Path(found)


def node_packages() -> Path:
    """The folder whose `node_modules` has TF.js, in the version this package asks for."""
    return _installed(_NODE, _node_digest(), "TF.js models are run in Node with TF.js", SETUP_NODE)


def reference_converter() -> Path:
    """The reference `tensorflowjs_converter`."""
    what = "engine 'tensorflowjs' needs the reference converter in an environment of its own"
    folder = _installed(_REFERENCE, _reference_digest(), what, SETUP_REFERENCE)
    return folder / "bin" / "tensorflowjs_converter"


def install_node_packages() -> Path:
    """Install TF.js from npm by the committed lock file; a second call does nothing."""
    digest = _node_digest()
    if (found := _find(_NODE, digest)) is not None:
        return found
    find_node()
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependencyError("npm is not installed", "install it; it comes with Node")
    with _installing(_NODE, digest) as folder:
        for source in _node_files():
            (folder / source).write_bytes(_resource(source))
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--loglevel=error"]
        run([npm, "ci", *options], cwd=folder, timeout=1800, failure=SetupError)
    return _home() / _NODE


def install_reference() -> Path:
    """Make the environment of the reference converter (3 GB, minutes); a second call does nothing."""
    digest = _reference_digest()
    if (found := _find(_REFERENCE, digest)) is not None:
        return found
    final = _home() / _REFERENCE
    # An environment's scripts name its own path: it is made in its place, and the mark completes it.
    shutil.rmtree(final, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(final)], timeout=300, failure=SetupError)
    pip = [str(final / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-compile"]
    run([*pip, *options, *reference_pins()], timeout=3600, failure=SetupError)
    (final / _MARK).write_text(digest)
    return final


def reference_pins() -> list[str]:
    """Requirements of the reference converter: the extra `tensorflowjs` of this package."""
    rows = (row.partition(";") for row in requires("pipcook-deploy") or [])
    return sorted(row.strip() for row, _, marker in rows if "tensorflowjs" in marker)


def _node_files() -> tuple[str, str]:
    return ("package.json", "package-lock.json")


def _resource(name: str) -> bytes:
    return files("pipcook_deploy.runtimes").joinpath("tfjs", name).read_bytes()


@contextmanager
def node_script(name: str) -> Iterator[Path]:
    """A script of this package as a file."""
    with as_file(files("pipcook_deploy.runtimes").joinpath("tfjs", name)) as path:
        yield path


def _node_digest() -> str:
    return hashlib.sha256(b"".join(_resource(name) for name in _node_files())).hexdigest()


def _reference_digest() -> str:
    return hashlib.sha256("\n".join(reference_pins()).encode()).hexdigest()


def _find(tool: str, digest: str) -> Path | None:
    for home in homes():
        mark = home / tool / _MARK
        if mark.is_file() and mark.read_text() == digest:
            return home / tool
    return None


def _installed(tool: str, digest: str, what: str, hint: str) -> Path:
    found = _find(tool, digest)
    if found is not None:
        return found
    older = any((home / tool / _MARK).is_file() for home in homes())
    state = "installed in another version" if older else "not installed"
    raise MissingDependencyError(f"{what}, which is {state}", hint)


@contextmanager
def _installing(tool: str, digest: str) -> Iterator[Path]:
    """A folder beside the final one, moved there when the block ends well."""
    final = _home() / tool
    with tempfile.TemporaryDirectory(prefix=f".{tool}-", dir=final.parent) as scratch:
        folder = Path(scratch, tool)
        folder.mkdir()
        yield folder
        (folder / _MARK).write_text(digest)
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)


def _home() -> Path:
    """The first folder that can be written to."""
    for home in homes():
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(home, os.W_OK):
            return home
    raise SetupError(
        f"no folder to install into can be written: {', '.join(map(str, homes()))}",
        "set PIPCOOK_DEPLOY_HOME to one that can",
    )


def _user_data() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
