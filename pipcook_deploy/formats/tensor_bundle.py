"""The index of a TensorFlow checkpoint (`variables.index`): names, shapes and places of its tensors.

Format: TensorBundle, an uncompressed LevelDB table (48-byte footer, index block, data blocks with prefix-
compressed keys) of BundleEntryProto; the entry under the empty key is the header with the number of shards.
"""

from dataclasses import dataclass
from pathlib import Path

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.protobuf_wire import Message, varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48


@dataclass(frozen=True)
class BundleEntry:
    """One stored tensor; `dtype` is TensorFlow's number of the type."""

    dtype: int
    shape: tuple[int, ...]
    size: int


def read_bundle(folder: Path, prefix: str = "variables") -> dict[str, BundleEntry]:
    """Entries by key, after checking that every data file is there and long enough."""
    index = folder / f"{prefix}.index"
    if not index.is_file():
        raise SourceError(
            f"{index}: is missing", "copy the whole SavedModel folder, variables/ too"
        )
    table = _table(memoryview(index.read_bytes()))
    header = Message.read(table.pop(b"", memoryview(b"")))
    count = max(1, header.integer(1, 1))
    ends: dict[int, int] = {}
    entries: dict[str, BundleEntry] = {}
    for key, value in table.items():
        entry = Message.read(value)
        shard, offset, size = entry.integer(3), entry.integer(4), entry.integer(5)
        if not 0 <= shard < count or offset < 0 or size < 0:
            raise SourceError(f"{index}: damaged: an entry lies outside of the data")
        ends[shard] = max(ends.get(shard, 0), offset + size)
        shape = tuple(dim.integer(1) for dim in entry.message(2).messages(2))
        entries[key.decode(errors="replace")] = BundleEntry(entry.integer(1), shape, size)
    for shard, end in ends.items():
        file = folder / f"{prefix}.data-{shard:05d}-of-{count:05d}"
        if not file.is_file():
            raise SourceError(f"{file}: is missing", "copy the whole SavedModel folder")
        if file.stat().st_size < end:
            raise SourceError(f"{file}: truncated: {file.stat().st_size} bytes instead of {end}")
    return entries


def _table(data: memoryview) -> dict[bytes, memoryview]:
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or int.from_bytes(footer[40:], "little") != _MAGIC:
        raise SourceError("variables.index: truncated or damaged: its end mark is missing")
    at = 0
    numbers = []
    for _ in range(4):  # offset and size of the metaindex, then of the index
        number, at = varint(footer, at)
        numbers.append(number)
    rows: dict[bytes, memoryview] = {}
    for _, handle in _block(data, numbers[2], numbers[3]):
        offset, after = varint(handle, 0)
        size, _ = varint(handle, after)
        rows.update(_block(data, offset, size))
    return rows


def _block(data: memoryview, offset: int, size: int) -> list[tuple[bytes, memoryview]]:
    if size < 4 or offset + size + 1 > len(data):
        raise SourceError("variables.index: truncated or damaged: a block lies outside of the file")
    if data[offset + size] != 0:
        raise SourceError("variables.index: a compressed index is not supported")
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    at, key, rows = 0, b"", []
    while at < end:
        shared, at = varint(block, at)
        unshared, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + unshared + length > end:
            raise SourceError("variables.index: damaged: an entry leaves its block")
        key = key[:shared] + bytes(block[at : at + unshared])
        at += unshared
        rows.append((key, block[at : at + length]))
        at += length
    return rows
