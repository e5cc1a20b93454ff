"""Debian packages, the distribution that they are of, and the Python interpreter."""

import platform
import re
import sys
from collections.abc import Iterator, Sequence
from email import message_from_string
from email.message import Message
from pathlib import Path

from components import Bill, Component, SbomError, people, purl

STATUS = "var/lib/dpkg/status.d"


def add_system(bill: Bill, roots: Sequence[Path]) -> None:
    """Add what is found below the roots."""
    for root in roots:
        release = _release(root)
        if release.get("ID"):
            bill.add(_operating_system(release), [])
        _add_packages(bill, list(_paragraphs(root)), release)
    if any(_has_interpreter(root) for root in roots):
        # Which Debian libraries it was linked with is written nowhere: no `depends`.
        bill.add(_interpreter())


def _release(root: Path) -> dict[str, str]:
    """`os-release`, without its quotes."""
    for name in "etc/os-release", "usr/lib/os-release":
        path = root / name
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            lines = path.read_text("utf-8", "replace").splitlines()
            pairs = (line.partition("=") for line in lines)
            return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    return {}


def _operating_system(release: dict[str, str]) -> Component:
    """Scanners look here for whose advisories to read."""
    component = {
        "type": "operating-system",
        "bom-ref": f"os:{release['ID']}",
        "name": release["ID"],
        "version": release.get("VERSION_ID", ""),
        "description": release.get("PRETTY_NAME", ""),
    }
    return {key: value for key, value in component.items() if value}


def _paragraphs(root: Path) -> Iterator[Message]:
    folder = root / STATUS
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix == ".md5sums":
            continue
        try:
            paragraph = message_from_string(path.read_bytes().decode("utf-8", "replace").lstrip())
        except OSError as error:
            raise SbomError(f"{path}: cannot be read: {error.strerror}") from error
        for key in "Package", "Version", "Architecture":
            if not (paragraph.get(key) or "").strip():
                raise SbomError(f"{path}: has no {key}, so nobody can tell which package it is")
        yield paragraph


def _add_packages(bill: Bill, paragraphs: list[Message], release: dict[str, str]) -> None:
    refs = {_field(one, "Package"): _package_purl(one, release) for one in paragraphs}
    for one in paragraphs:
        asked = re.split(r"[,|]", f"{_field(one, 'Pre-Depends')},{_field(one, 'Depends')}")
        names = {re.split(r"[\s(:]", name.strip(), maxsplit=1)[0] for name in asked}
        bill.add(_package(one, release), [refs[name] for name in names if name in refs])


def _package_purl(paragraph: Message, release: dict[str, str]) -> str:
    """`upstream` is the source package: the one that Debian's advisories name."""
    name, source = _field(paragraph, "Package"), _field(paragraph, "Source")
    vendor, version = release.get("ID", "debian"), release.get("VERSION_ID")
    upstream = re.sub(r"\s*\((.*)\)$", r"@\1", source)
    return purl(
        "deb",
        vendor,
        name,
        version=_field(paragraph, "Version"),
        arch=_field(paragraph, "Architecture"),
        distro=f"{vendor}-{version}" if version else "",
        upstream=upstream if upstream != name else "",
    )


def _package(paragraph: Message, release: dict[str, str]) -> Component:
    ref = _package_purl(paragraph, release)
    maintainer = people(None, paragraph.get("Maintainer"))
    component: Component = {
        "type": "library",
        "bom-ref": ref,
        "supplier": _supplier(maintainer[0]) if maintainer else None,
        "name": _field(paragraph, "Package"),
        "version": _field(paragraph, "Version"),
        "description": (paragraph.get("Description") or "").partition("\n")[0].strip(),
        "purl": ref,
    }
    return {key: value for key, value in component.items() if value}


def _supplier(maintainer: dict[str, str]) -> Component:
    return {"name": maintainer.get("name", maintainer.get("email")), "contact": [maintainer]}


def _field(paragraph: Message, name: str) -> str:
    return " ".join((paragraph.get(name) or "").split())


def _has_interpreter(root: Path) -> bool:
    """Whether Python's library is there; of another version than this one, which was copied, it is an error."""
    found = {path.parent.name for path in root.rglob("lib/python3.*/encodings")}
    mine = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for other in sorted(found - {mine}):
        raise SbomError(f"{root}: holds {other}: run this script with it, not with {mine}")
    return bool(found)


def _interpreter() -> Component:
    version = platform.python_version()
    ref = purl("generic", "python", version=version)
    return {
        "type": "platform",
        "bom-ref": ref,
        "supplier": {"name": "Python Software Foundation"},
        "name": "python",
        "version": version,
        "licenses": [{"license": {"id": "Python-2.0.1"}}],
        # Advisories of Python know it by this: `generic` says nothing of whose python it is.
        "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
        "purl": ref,
    }
