"""This package as a wheel, made of the files that run here: what was verified is what goes into an image.

An index may have another version, or none. Format: PyPA's binary distribution format 1.0, and the recording of
installed projects.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

NAME = "pipcook_deploy"
# Parts that live in folders of their own beside the package in a checkout.
PARTS = ("converters", "targets", "dockerfiles")
TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
WHEEL = "Wheel-Version: 1.0\nGenerator: pipcook-deploy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NOT_PACKED = ("__pycache__", "node_modules")


def wheel_name() -> str:
    """The file name of the wheel."""
    return f"{NAME}-{_installed().version}-py3-none-any.whl"


@cache
def wheel_bytes() -> bytes:
    """The wheel; the same files give the same bytes. Raises `OSError`."""
    rows: list[str] = []
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (*_modules(), *_metadata()):
            _add(archive, name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}\n")
        record = f"{_info()}/RECORD"
        _add(archive, record, "".join([*rows, f"{record},,\n"]).encode())
    return file.getvalue()


def _modules() -> Iterator[tuple[str, bytes]]:
    found: dict[str, Path] = {}
    for part in ("", *PARTS):
        module = import_module(f"{NAME}.{part}" if part else NAME)
        top = Path(module.__path__[0])
        for path in top.rglob("*"):
            below = path.relative_to(top)
            if path.is_file() and not set(NOT_PACKED) & set(below.parts):
                found[Path(NAME, part, below).as_posix()] = path
    for name in sorted(found):
        yield name, found[name].read_bytes()


def _metadata() -> Iterator[tuple[str, bytes]]:
    installed = _installed()
    about = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    yield f"{_info()}/METADATA", about.encode()
    yield f"{_info()}/entry_points.txt", (installed.read_text("entry_points.txt") or "").encode()
    yield f"{_info()}/WHEEL", WHEEL.encode()
    licence = installed.read_text("licenses/LICENSE")
    if licence is not None:
        yield f"{_info()}/licenses/LICENSE", licence.encode()


@cache
def _installed() -> Distribution:
    """As an installer left it. In a checkout setuptools' own notes are found first: older, and without the licence."""
    found = distributions(name="pipcook-deploy")
    whole = (one for one in found if one.read_text("METADATA") is not None)
    return next(whole, None) or distribution("pipcook-deploy")


def _info() -> str:
    return f"{NAME}-{_installed().version}.dist-info"


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, TIME)
    info.external_attr = 0o100644 << 16
    archive.writestr(info, data)
