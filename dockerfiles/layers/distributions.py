"""The Python distributions below the roots: what their `*.dist-info` says."""

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from pathlib import Path

from components import (
    Bill,
    Component,
    SbomError,
    file_component,
    files_below,
    folders_below,
    hashes,
    people,
    property_of,
    purl,
)
from licences import declared

Lock = dict[tuple[str, str], list[str]]
OPERAND = r"""'[^']*'|"[^"]*"|[a-z_.]+"""
COMPARISON = re.compile(rf"({OPERAND})\s*(not\s+in\b|in\b|[<>=!~]=?=?)\s*({OPERAND})")


@dataclass(frozen=True)
class Distribution:
    """`place` is the folder that it is imported from, below its root."""

    name: str
    version: str
    place: Path
    root: Path
    metadata: Message

    @property
    def ref(self) -> str:
        return purl("pypi", normalised(self.name), version=self.version)


def normalised(name: str) -> str:
    """As PyPA's specification of names has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_distributions(roots: Sequence[Path]) -> list[Distribution]:
    """All of them; also those that others carry within themselves."""
    return [_read(folder, root) for root in roots for folder in folders_below(root, ".dist-info")]


def _read(folder: Path, root: Path) -> Distribution:
    path = folder / "METADATA"
    try:
        metadata = message_from_string(path.read_bytes().decode("utf-8", "replace"))
    except OSError as error:
        raise SbomError(f"{path}: cannot be read: {error.strerror}") from error
    name, version = (" ".join((metadata.get(key) or "").split()) for key in ("Name", "Version"))
    for key, value in ("Name", name), ("Version", version):
        if not value:
            raise SbomError(f"{path}: has no {key}, so nobody can tell what is installed there")
    return Distribution(name, version, folder.parent.relative_to(root), root, metadata)


def add_distributions(bill: Bill, roots: Sequence[Path], lock: Lock) -> None:
    """Add all, with the shared libraries that were packed into their wheels."""
    found = read_distributions(roots)
    beside = {(one.place, normalised(one.name)): one for one in found}
    libraries = _libraries(roots, beside, bill)
    for one in found:
        wanted = [beside.get((one.place, name)) for name in requirements(one.metadata)]
        component = _component(one, lock)
        if one.ref in libraries:
            component["components"] = libraries[one.ref]
        bill.add(component, [other.ref for other in wanted if other])


def _component(one: Distribution, lock: Lock) -> Component:
    get = one.metadata.get
    classifiers = [str(value) for value in one.metadata.get_all("Classifier", [])]
    locked = lock.get((normalised(one.name), one.version), [])
    component: Component = {
        "type": "library",
        "bom-ref": one.ref,
        "authors": people(get("Author"), get("Author-email"))
        or people(get("Maintainer"), get("Maintainer-email")),
        "name": one.name,
        "version": one.version,
        "description": " ".join((get("Summary") or "").split()),
        # `hashes` are of the component's one artifact, under one algorithm each. pip could have taken
        # no other file than that of a single hash. Several are of several files (a wheel for each
        # platform, the sdist), only one of which was installed, and nothing tells which: two SHA-256
        # in `hashes` would contradict each other, so they are what the lock allows, as properties.
        "hashes": hashes(locked[0]) if len(locked) == 1 else [],
        "licenses": declared(get("License-Expression"), get("License"), classifiers),
        "purl": one.ref,
        "properties": [property_of("lock:sha256", value) for value in locked]
        if len(locked) > 1
        else [],
    }
    return {key: value for key, value in component.items() if value}


def _libraries(
    roots: Sequence[Path], beside: Mapping[tuple[Path, str], Distribution], bill: Bill
) -> dict[str, list[Component]]:
    """Files of `NAME.libs` folders, by the `bom-ref` of whose they are; into the bill if nobody's."""
    owned: dict[str, dict[str, Component]] = {}
    for root in roots:
        for folder in folders_below(root, ".libs"):
            place = folder.parent.relative_to(root)
            owner = beside.get((place, normalised(folder.name.removesuffix(".libs"))))
            for path in files_below(folder):
                if owner:
                    name = str(path.relative_to(folder.parent))
                    file = file_component(path, name, owner.ref)
                    owned.setdefault(owner.ref, {})[file["bom-ref"]] = file
                else:
                    bill.add(file_component(path, str(path.relative_to(root)), "file"), [])
    return {ref: [files[key] for key in sorted(files)] for ref, files in owned.items()}


def requirements(metadata: Message) -> Iterator[str]:
    """Names that `Requires-Dist` asks for here. Extras are left out: nothing records which were wanted."""
    for text in metadata.get_all("Requires-Dist", []):
        requirement, _, marker = str(text).partition(";")
        name = re.match(r"\s*([A-Za-z0-9][\w.-]*)", requirement)
        if name and holds(marker):
            yield normalised(name[1])


def holds(marker: str) -> bool:
    """Whether an environment marker is true for this interpreter, roughly: what is not understood is."""

    def one(found: re.Match[str]) -> str:
        return " T " if _compare(found[1], found[2], found[3]) else " F "

    def flat(text: str) -> str:
        either = (re.split(r"\band\b", part) for part in re.split(r"\bor\b", text))
        return " T " if any(all(word.strip() != "F" for word in all_) for all_ in either) else " F "

    text = COMPARISON.sub(one, marker)
    while (shorter := re.sub(r"\(([^()]*)\)", lambda inner: flat(inner[1]), text)) != text:
        text = shorter
    return flat(text) == " T "


def _compare(left: str, operator: str, right: str) -> bool:
    a, b = (_value(text) for text in (left, right))
    if a is None or b is None:
        return True
    if operator in ("==", "===", "!="):
        return (a == b) is (operator != "!=")
    if operator.endswith("in"):
        return (a in b) is (operator == "in")
    x, y = (_numbers(text) for text in (a, b))
    return {"<": x < y, "<=": x <= y, ">": x > y}.get(operator, x >= y)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", re.sub(r"(\.0)+$", "", text))]


def _value(operand: str) -> str | None:
    if operand[0] in "'\"":
        return operand[1:-1]
    return {
        "extra": "",
        "implementation_name": sys.implementation.name,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_system": platform.system(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }.get(operand)


def read_lock(text: str) -> Lock:
    """SHA-256 values of a requirements file with hashes, by normalised name and version."""
    lock: Lock = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        pin = re.match(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*==\s*([^\s;]+)", line)
        if pin:
            found = re.findall(r"--hash[= ]sha256:([0-9a-fA-F]{64})\b", line)
            known = lock.setdefault((normalised(pin[1]), pin[2]), [])
            known[:] = sorted({*known, *(value.lower() for value in found)})
    return lock
