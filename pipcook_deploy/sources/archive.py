"""Zip files, unpacked without trust in what their headers say."""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipcook_deploy.errors import SourceError
from pipcook_deploy.text import human_bytes

MAX_ENTRIES = 10_000
MAX_TOTAL = 8 * 1000**3
MAX_RATIO = 200  # pruned weights reach 50, a bomb 1000
RATIO_FROM = 16 * 1024 * 1024  # small entries may compress as well as they like
_BLOCK = 1 << 20
_ENCRYPTED = 0x1


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose entry names were checked. Damage met in the block is a `SourceError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_names(path, archive)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise SourceError(
            f"{path}: a truncated or damaged zip archive: {error}", "copy or download it again"
        ) from error


def check_names(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse entries that would be written elsewhere, links, duplicates, encryption, and too many."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise SourceError(
            f"{path}: the archive has {len(entries)} entries, more than {MAX_ENTRIES}"
        )
    seen: set[str] = set()
    for entry in entries:
        name = PurePosixPath(entry.filename)
        foreign = "\\" in entry.filename or ":" in entry.filename or "\0" in entry.filename
        if foreign or name.is_absolute() or ".." in name.parts or not name.parts:
            raise SourceError(f"{path}: the entry {entry.filename!r} leaves the archive's folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise SourceError(f"{path}: the entry {entry.filename!r} is a symbolic link")
        if str(name) in seen:
            raise SourceError(f"{path}: the entry {entry.filename!r} is there twice")
        if entry.flag_bits & _ENCRYPTED:
            raise SourceError(f"{path}: is encrypted", "unpack it and give the folder")
        seen.add(str(name))


def unpack(path: Path, into: Path) -> None:
    """Unpack below `into`, counting the bytes as they come.

    Raises `SourceError` for a bomb: more than `MAX_TOTAL` bytes, or an entry that grows `MAX_RATIO`-fold.
    """
    with opened(path) as archive:
        total = 0
        for entry in archive.infolist():
            target = into / PurePosixPath(entry.filename)
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                for block in blocks(path, archive, entry, MAX_TOTAL - total):
                    total += len(block)
                    stream.write(block)


def read_entry(path: Path, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The content of one entry of at most `limit` bytes."""
    try:
        entry = archive.getinfo(name)
    except KeyError as error:
        raise SourceError(f"{path}: the archive has no {name}") from error
    return b"".join(blocks(path, archive, entry, limit))


def blocks(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int
) -> Iterator[bytes]:
    """The content of an entry block by block; its checksum is checked at the end."""
    count = 0
    with archive.open(entry) as stream:
        while block := stream.read(_BLOCK):
            count += len(block)
            if count > limit:
                raise SourceError(
                    f"{path}: the entry {entry.filename!r} unpacks to more than {human_bytes(limit)}: "
                    "a zip bomb"
                )
            if count > RATIO_FROM and count > MAX_RATIO * max(1, entry.compress_size):
                raise SourceError(
                    f"{path}: the entry {entry.filename!r} unpacks to more than {MAX_RATIO} times its "
                    "size: a zip bomb"
                )
            yield block
