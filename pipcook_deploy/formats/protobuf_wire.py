"""Protocol buffers, read without their schema compiler: fields by number, no copies.

Format: the protobuf wire format (varint, fixed64, length-delimited, fixed32). Every reader is given its
bytes and raises `SourceError` for whatever is not well-formed; no input makes it loop or recurse.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipcook_deploy.errors import SourceError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (field number, wire type, value): an int for varint and fixed, a view for bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise SourceError("damaged: a field has the number 0")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise SourceError(f"damaged: field {number} has the unknown wire type {kind}")
        if size > end - at:
            raise SourceError(f"truncated: field {number} needs {size} bytes, {end - at} are left")
        chunk = data[at : at + size]
        at += size
        yield number, kind, chunk if kind == BYTES else int.from_bytes(chunk, "little")


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned varint at `at`, and the place after it."""
    result = shift = 0
    while True:
        if at >= len(data):
            raise SourceError("truncated: the file ends inside a number")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise SourceError("damaged: a number has more than 10 bytes")


def signed(value: int) -> int:
    """A varint read as int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


@dataclass(frozen=True)
class Message:
    """A message with its fields gathered by number; the last of a repeated scalar wins, as in protobuf."""

    values: dict[int, list[int | memoryview]] = field(repr=False)

    @classmethod
    def read(cls, data: memoryview) -> "Message":
        """Gather all fields of a message."""
        values: dict[int, list[int | memoryview]] = {}
        for number, _, value in fields(data):
            values.setdefault(number, []).append(value)
        return cls(values)

    def all_bytes(self, number: int) -> list[memoryview]:
        """Every length-delimited value of a field."""
        values = self.values.get(number, [])
        views = [value for value in values if isinstance(value, memoryview)]
        if len(views) != len(values):
            raise SourceError(f"damaged: field {number} is a number where bytes are expected")
        return views

    def messages(self, number: int) -> list["Message"]:
        """Every sub-message of a field."""
        return [Message.read(view) for view in self.all_bytes(number)]

    def message(self, number: int) -> "Message":
        """The sub-message of a field, empty when it is absent."""
        views = self.all_bytes(number)
        return Message.read(views[-1]) if views else Message({})

    def integer(self, number: int, default: int = 0) -> int:
        """An int64 field."""
        values = self.values.get(number)
        if not values:
            return default
        value = values[-1]
        if not isinstance(value, int):
            raise SourceError(f"damaged: field {number} is bytes where a number is expected")
        return signed(value)

    def integers(self, number: int) -> list[int]:
        """A repeated int64 field, packed or not."""
        numbers: list[int] = []
        for value in self.values.get(number, []):
            if isinstance(value, int):
                numbers.append(signed(value))
                continue
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                numbers.append(signed(one))
        return numbers

    def text(self, number: int) -> str:
        """A string field, "" when it is absent."""
        views = self.all_bytes(number)
        return decode(views[-1]) if views else ""

    def texts(self, number: int) -> list[str]:
        """A repeated string field."""
        return [decode(view) for view in self.all_bytes(number)]

    def has(self, number: int) -> bool:
        """Whether the field is there."""
        return number in self.values


def decode(view: memoryview) -> str:
    """UTF-8 text."""
    try:
        return bytes(view).decode()
    except UnicodeDecodeError as error:
        raise SourceError("damaged: a name is not UTF-8") from error
