"""What the parts of a bill of materials are made of (CycloneDX 1.6)."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import getaddresses
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]


class SbomError(Exception):
    """Something in the image cannot be described; a bill that leaves it out would be a wrong one."""


@dataclass
class Bill:
    """Components by `bom-ref`, and what they depend on."""

    components: dict[str, Component] = field(default_factory=dict)
    depends: dict[str, set[str]] = field(default_factory=dict)

    def add(self, component: Component, depends: Iterable[str] | None = None) -> None:
        """Add it, once. `depends` None is not known, which is not the same as nothing."""
        ref = component["bom-ref"]
        self.components.setdefault(ref, component)
        if depends is not None:
            self.depends.setdefault(ref, set()).update(set(depends) - {ref})


def purl(*path: str, version: str, **qualifiers: str) -> str:
    """A package URL: type, namespace if there is one, name. A colon stays as it is, says its specification."""
    name = "/".join(quote(part, safe=":") for part in path)
    rest = "&".join(f"{k}={quote(v, safe=':')}" for k, v in sorted(qualifiers.items()) if v)
    return f"pkg:{name}@{quote(version, safe=':')}" + (f"?{rest}" if rest else "")


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def file_component(path: Path, name: str, owner: str) -> Component:
    """A file of `owner`; `name` is its path there, of whatever bytes."""
    written = os.fsencode(name)
    return {
        "type": "file",
        "bom-ref": f"{owner}#{quote(written)}",
        "name": written.decode("utf-8", "replace"),
        "hashes": hashes(sha256(path)),
    }


def property_of(name: str, value: str) -> dict[str, str]:
    return {"name": f"pipcook-deploy:{name}", "value": value}


def people(name: str | None, addresses: str | None) -> list[dict[str, str]]:
    """Of a field that is a name, in free words, and of one of `Name <address>`; either may be missing."""
    found: list[dict[str, str]] = []
    if addresses and "@" not in addresses:
        name, addresses = name or addresses, None
    for person, address in getaddresses([" ".join((addresses or "").split())]):
        one = {"name": person, "email": address if "@" in address else ""}
        if person or one["email"]:
            found.append({key: value for key, value in one.items() if value})
    known = {text for one in found for text in one.values()}
    whole = " ".join((name or "").split())
    if whole and whole not in known:
        if len(found) == 1 and "name" not in found[0]:
            return [{"name": whole} | found[0]]
        return [{"name": whole}, *found]
    return found


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files; no link is followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield path


def folders_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Folders whose names end in `suffix`, in order; no link is followed."""
    for place, folders, _ in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in folders if name.endswith(suffix))
