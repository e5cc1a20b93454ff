"""The order of versions: as people count, 2 before 10, and 2.0-rc1 before 2.0."""

import re

_PARTS = re.compile(r"\d+|-[^\d-]+|[^\d-]+|-")
Order = tuple[tuple[int, int, str], ...]


def natural(version: str) -> Order:
    """A key for sorting."""
    return (*(_rank(part) for part in _PARTS.findall(version)), (0, 0, ""))


def _rank(part: str) -> tuple[int, int, str]:
    if part.isdecimal():
        return (2, int(part), "")
    before_release = part.startswith("-") and len(part) > 1
    return (-1 if before_release else 1, 0, part)
