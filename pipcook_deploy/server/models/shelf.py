"""Where models come from: bundles given at the start, and a repository folder NAME/VERSION/bundle."""

import os
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipcook_deploy.bundle import MANIFEST, SUMS, Bundle
from pipcook_deploy.bundle_safety import check_models
from pipcook_deploy.errors import BundleError, DeployError, ServerError
from pipcook_deploy.server.served import ServedModel

GIVEN = "given"  # the edition of what does not change
LONGEST_REASON = 500  # a bundle may have many files that are wrong
MOST_FILES = 10_000  # someone may take a home folder for a repository
Versions = dict[str, dict[str, str]]  # of each name and version something


@dataclass
class Sight:
    """What lies there: editions, and why something is none, by name and version."""

    there: Versions = field(default_factory=dict)
    broken: Versions = field(default_factory=dict)

    def joined(self, other: "Sight") -> "Sight":
        """Both; of the same version the other's."""
        return Sight(_joined(self.there, other.there), _joined(self.broken, other.broken))


def open_served(folder: Path, name: str | None = None, version: str | None = None) -> ServedModel:
    """A bundle that is whole and what it says. Raises `BundleError`."""
    bundle = Bundle.open(folder)
    bundle.check_files()
    served = ServedModel.of_bundle(bundle, name, version)
    formats = [candidate.artifact.format for candidate in served.candidates]
    check_models(bundle, [bundle.entry(format) for format in formats], trusted=False)
    return served


def is_repository(folder: Path) -> bool:
    """Whether bundles lie two levels below."""
    return folder.is_dir() and any(folder.glob(f"[!.]*/[!.]*/{MANIFEST}"))


class Shelf:
    """All that can be loaded. Not for the event loop's thread: it reads files."""

    def __init__(self, given: tuple[ServedModel, ...], repository: "Repository | None") -> None:
        """Raises `ServerError` if a version is given twice."""
        self.repository = repository
        self._given = {(served.spec.name, served.spec.version): served for served in given}
        if len(self._given) < len(given):
            pairs = [(served.spec.name, served.spec.version) for served in given]
            name, version = next(pair for pair in pairs if pairs.count(pair) > 1)
            raise ServerError(
                f"two of the bundles are {name} {version}",
                "convert one again with another --name or --version, or put both into a repository",
            )

    def look(self, *, hurry: bool = False) -> Sight:
        """What there is now. `hurry`: what came since the last look is judged as it is.

        Raises `ServerError` if the repository cannot be read.
        """
        given = Sight()
        for name, version in self._given:
            given.there.setdefault(name, {})[version] = GIVEN
        return self.repository.look(hurry=hurry).joined(given) if self.repository else given

    def open(self, name: str, version: str, edition: str) -> ServedModel:
        """Raises `DeployError` if it is not what it was any more."""
        if edition == GIVEN:
            return self._given[name, version]
        if self.repository is None:
            raise ServerError(f"there is no {name} {version} to load")
        folder = self.repository.folder / name / version
        try:
            served = open_served(folder, name, version)
            if edition_of(folder) == edition:
                return served
        except OSError as error:  # a file that was there a moment ago
            raise ServerError(f"{folder}: cannot be read: {error.strerror}") from error
        raise ServerError(f"{folder}: changed while it was loaded")


def edition_of(folder: Path) -> str:
    """Of a bundle that is whole: its sums are of all of its files. Raises `OSError`."""
    return sha256((folder / SUMS).read_bytes()).hexdigest()[:16]


@dataclass
class _Seen:
    """A version's folder as it was seen last. `judged`: its files are known to be whole, or not."""

    print: object = None
    since: float = 0.0
    judged: bool = False
    edition: str = ""
    stamp: object = None
    reason: str = ""
    missed: bool = False


class Repository:
    """A folder NAME/VERSION of bundles, looked at again and again.

    A bundle counts once it has not changed between two looks and its files are right; one that stays wrong for
    `patience` seconds is broken, and counts as soon as it is made right. One that was not there in two looks is
    gone: replacing a folder takes two moves.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder = folder
        self._patience = patience
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._first = True

    def look(self, *, hurry: bool = False) -> Sight:
        """What there is. Raises `ServerError` if the folder cannot be read."""
        sight, hurry = Sight(), hurry or self._first
        try:
            found = dict(_versions(self.folder))
        except OSError as error:
            raise ServerError(f"{self.folder}: cannot be read: {error.strerror}") from error
        self._first = False
        self._forget(found.keys())
        for place, path in found.items():
            seen = self._seen.setdefault(place, _Seen())
            self._examine(seen, path, hurry)
        for (name, version), seen in self._seen.items():
            if seen.edition:
                sight.there.setdefault(name, {})[version] = seen.edition
            elif seen.reason and time.monotonic() - seen.since >= self._patience:
                sight.broken.setdefault(name, {})[version] = seen.reason
        return sight

    def _forget(self, there: Set[tuple[str, str]]) -> None:
        for place in self._seen.keys() - there:
            if self._seen[place].missed or not self._seen[place].edition:
                del self._seen[place]
            else:
                self._seen[place].missed = True

    def _examine(self, seen: _Seen, path: Path, hurry: bool) -> None:
        seen.missed = False
        stamp = _stamp(path)
        if seen.edition and stamp is not None and stamp == seen.stamp:
            return  # whole, and the same: two files are looked at, not all
        print = _fingerprint(path)
        if print != seen.print:
            seen.print, seen.since, seen.judged = print, time.monotonic(), False
            if not hurry:
                return
        if not seen.judged:
            seen.judged, seen.stamp = True, stamp
            try:
                Bundle.open(path).check_files()
                seen.edition, seen.reason = edition_of(path), ""
            except BundleError as error:
                # What was whole goes on until something else is.
                seen.reason = reason(error)[:LONGEST_REASON]
            except OSError as error:
                seen.reason = str(error)


def _versions(folder: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    for name in _folders(folder):
        for version in _folders(Path(name.path)):
            yield (name.name, version.name), Path(version.path)


def _folders(folder: Path) -> list["os.DirEntry[str]"]:
    """Those that are not hidden; links to folders count."""
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Not for links that lead nowhere but to themselves, and names that no answer could spell."""
    try:
        return entry.name.isprintable() and entry.is_dir()
    except OSError:
        return False


def _stamp(path: Path) -> object:
    try:
        stats = [(path / name).stat() for name in (MANIFEST, SUMS)]
    except OSError:
        return None
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]


def _fingerprint(path: Path) -> object:
    """Of sizes and times of what is below; of the first files of a folder that is too large for a bundle."""
    rows: list[Any] = []
    for root, _, files in os.walk(path):
        rows.append((root,))
        for name in files:
            try:
                stat = os.lstat(Path(root, name))
            except OSError:
                continue  # gone meanwhile
            rows.append((root, name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
        if len(rows) > MOST_FILES:
            break
    return sorted(rows)


def _joined(one: Mapping[str, dict[str, str]], other: Mapping[str, dict[str, str]]) -> Versions:
    names = {**one, **other}
    return {name: {**one.get(name, {}), **other.get(name, {})} for name in names}


def reason(error: DeployError) -> str:
    """An error in one line."""
    return error.message.replace("\n", "; ")
