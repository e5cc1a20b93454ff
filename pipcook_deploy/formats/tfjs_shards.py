"""The shards of a weight group: several files that are one byte stream."""

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from pipcook_deploy.errors import SourceError


def shard_file(folder: Path, name: Any) -> Path:
    """The file of a shard, which must lie below `folder` once links are followed.

    Raises `SourceError` for anything else: a URL, an absolute path, `..`, a link out, a missing file.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise SourceError(f"{folder}: weightsManifest: {name!r} is not the name of a shard")
    path = PurePosixPath(name)
    foreign = "\\" in name or ":" in name or "%" in name
    if foreign or path.is_absolute() or ".." in path.parts:
        raise SourceError(f"{folder}: the shard path {name!r} leaves the model's folder")
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"{folder}: the shard {name!r} is a link out of the model's folder")
    if not file.is_file():
        raise SourceError(f"{folder}: the shard {name!r} is missing")
    return file


class ShardStream:
    """Random access to the bytes of the shards, in the order that the manifest lists them."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self._starts = [0, *accumulate(file.stat().st_size for file in files)]

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return self._starts[-1]

    def read(self, start: int, size: int) -> bytes:
        """Exactly `size` bytes from `start` on. Raises `SourceError` where the stream ends before."""
        parts, at, end = [], start, start + size
        if end > self.size:
            raise SourceError(f"the weights end after {self.size} bytes, {end} are needed")
        while at < end:
            index = bisect_right(self._starts, at) - 1
            with self.files[index].open("rb") as file:
                file.seek(at - self._starts[index])
                parts.append(file.read(min(end, self._starts[index + 1]) - at))
            if not parts[-1]:
                raise SourceError(f"{self.files[index]}: became shorter while it was read")
            at += len(parts[-1])
        return b"".join(parts)
