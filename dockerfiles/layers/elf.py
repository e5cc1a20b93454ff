"""Takes symbols and debugging notes out of programs and libraries: some wheels are nine tenths that.

A loader reads an ELF file by its program headers alone; what lies behind the last byte that they name (section
headers, symbol tables, DWARF) is for linkers and debuggers. Layout: System V gABI, chapter 4 and 5.
"""

import struct
from pathlib import Path

# e_ident of ELF64, little endian: what x86-64 and AArch64 have.
IDENT = b"\x7fELF\x02\x01"
HEADER, SEGMENT = 64, 56
E_PHOFF, E_SHOFF, E_PHENTSIZE, E_SHNUM = 32, 40, 54, 60
P_OFFSET, P_FILESZ = 8, 32


def strip(path: Path) -> bool:
    """Cut the file where its last segment ends; whether that made it smaller. Other files are left alone."""
    with path.open("r+b") as stream:
        head = bytearray(stream.read(HEADER))
        if len(head) < HEADER or head[: len(IDENT)] != IDENT:
            return False
        (start,) = struct.unpack_from("<Q", head, E_PHOFF)
        size, count = struct.unpack_from("<HH", head, E_PHENTSIZE)
        if size != SEGMENT or not count:
            return False
        whole = path.stat().st_size
        behind = start + size * count  # the table may lie in no segment
        if behind > whole:
            return False
        stream.seek(start)
        end = max(behind, _end(stream.read(size * count), count))
        if not HEADER < end < whole:
            return False
        struct.pack_into("<Q", head, E_SHOFF, 0)
        struct.pack_into("<HH", head, E_SHNUM, 0, 0)  # and e_shstrndx behind it
        stream.seek(0)
        stream.write(head)
        stream.truncate(end)
    return True


def _end(segments: bytes, count: int) -> int:
    rows = [segments[number * SEGMENT :] for number in range(count)]
    return max(_number(row, P_OFFSET) + _number(row, P_FILESZ) for row in rows)


def _number(row: bytes, at: int) -> int:
    return int.from_bytes(row[at : at + 8], "little")
