"""FlatBuffers, read without generated code: tables, vectors and strings, every offset checked.

Format: FlatBuffers internals (32-bit offsets, vtables of 16-bit field offsets, little-endian).
"""

from dataclasses import dataclass

from pipcook_deploy.errors import SourceError


@dataclass(frozen=True)
class Table:
    """A table at `at` of `data`; fields are counted from 0 in the order of the schema."""

    data: memoryview
    at: int

    @classmethod
    def root(cls, data: memoryview) -> "Table":
        """The table that a file begins with."""
        return cls(data, number(data, 0, 4))

    def place(self, field: int) -> int | None:
        """Where a field lies; None when it has its default."""
        vtable = self.at - signed(number(self.data, self.at, 4), 4)
        size = number(self.data, vtable, 2)
        slot = 4 + 2 * field
        offset = number(self.data, vtable + slot, 2) if slot + 2 <= size else 0
        return self.at + offset if offset else None

    def integer(self, field: int, size: int, default: int = 0) -> int:
        """A signed integer of `size` bytes."""
        place = self.place(field)
        return default if place is None else signed(number(self.data, place, size), size)

    def table(self, field: int) -> "Table | None":
        """A sub-table."""
        place = self.place(field)
        return None if place is None else Table(self.data, place + number(self.data, place, 4))

    def text(self, field: int) -> str:
        """A string, "" when it is absent."""
        place = self.place(field)
        if place is None:
            return ""
        start, count = self._vector(place, 1)
        return bytes(self.data[start : start + count]).decode(errors="replace")

    def tables(self, field: int) -> "list[Table]":
        """A vector of tables."""
        place = self.place(field)
        if place is None:
            return []
        start, count = self._vector(place, 4)
        spots = range(start, start + 4 * count, 4)
        return [Table(self.data, spot + number(self.data, spot, 4)) for spot in spots]

    def integers(self, field: int, size: int = 4) -> list[int]:
        """A vector of signed integers of `size` bytes."""
        place = self.place(field)
        if place is None:
            return []
        start, count = self._vector(place, size)
        return [signed(number(self.data, start + size * i, size), size) for i in range(count)]

    def byte_count(self, field: int) -> int:
        """Length of a vector of bytes, which must lie inside of the file."""
        place = self.place(field)
        return 0 if place is None else self._vector(place, 1)[1]

    def _vector(self, place: int, size: int) -> tuple[int, int]:
        start = place + number(self.data, place, 4)
        count = number(self.data, start, 4)
        if start + 4 + count * size > len(self.data):
            raise SourceError(f"truncated or damaged: a list of {count} elements leaves the file")
        return start + 4, count


def number(data: memoryview, at: int, size: int) -> int:
    """An unsigned integer of `size` bytes."""
    if at < 0 or at + size > len(data):
        raise SourceError("truncated or damaged: an offset leaves the file")
    return int.from_bytes(data[at : at + size], "little")


def signed(value: int, size: int) -> int:
    """Two's complement of `size` bytes."""
    return value - (1 << 8 * size) if value >= 1 << 8 * size - 1 else value
