"""The shared libraries of the base image that a folder of programs needs, and the packages they are of."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

ELF = b"\x7fELF"
AT_ONCE = 200  # files for one call of ldd
# What ldd prints: "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x...)", or the loader's path alone.
LINE = re.compile(r"^\s*(?:\S+ => )?(/.+) \(0x[0-9a-f]+\)$")
MISSING = re.compile(r"^\s*(\S+) => not found$")
STATUS = Path("/var/lib/dpkg/status")


class LibraryError(Exception):
    """A library that a program needs is nowhere in the base image."""


def programs(folders: Iterable[Path]) -> list[Path]:
    """Every ELF file below the folders."""
    return [path for folder in folders for path in sorted(folder.rglob("*")) if _is_elf(path)]


def needed(files: list[Path]) -> set[Path]:
    """The libraries, with those that they need in turn, as the base's own loader finds them."""
    found: set[Path] = set()
    lacking: set[str] = set()
    for start in range(0, len(files), AT_ONCE):
        part = [str(path) for path in files[start : start + AT_ONCE]]
        done = subprocess.run(["ldd", *part], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if match := LINE.match(line):
                found.add(Path(match[1]))
            elif match := MISSING.match(line):
                lacking.add(match[1])
    if lacking:
        raise LibraryError(f"the base image has no {', '.join(sorted(lacking))}")
    return found


def copy(library: Path, root: Path) -> Path:
    """Put a library, and the links that lead to it, where the loader looks for it; the file itself."""
    place = library.parent.resolve() / library.name
    target = root / place.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(place.readlink())
        return copy(place.parent / place.readlink(), root)
    shutil.copy2(place, target)
    return place


def describe(files: Iterable[Path], root: Path) -> None:
    """Say which Debian packages the files are of, where scanners of images without a package manager look."""
    if not STATUS.is_file():
        return
    names = {owner for path in files if (owner := _owner(path))}
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True, exist_ok=True)
    for paragraph in STATUS.read_text(encoding="utf-8").split("\n\n"):
        name = re.match(r"Package: (\S+)", paragraph)
        if name and name[1] in names:
            (folder / name[1]).write_text(f"{paragraph.strip()}\n", encoding="utf-8")


def _owner(path: Path) -> str | None:
    # Packages made before /lib became a link to /usr/lib list their files below /lib.
    for spelled in (path, Path("/", *path.parts[2:]) if path.parts[1:2] == ("usr",) else path):
        done = subprocess.run(
            ["dpkg-query", "--search", str(spelled)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout.split(":", 1)[0].split(",", 1)[0].strip()
    return None


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == ELF


def links_of_the_root(root: Path) -> Iterator[tuple[Path, str]]:
    """`/lib` and the like, which are links into `/usr` in Debian: as they are in the base."""
    for path in sorted(Path("/").iterdir()):
        if path.is_symlink() and path.name.startswith(("lib", "bin", "sbin")):
            yield root / path.name, str(path.readlink())
