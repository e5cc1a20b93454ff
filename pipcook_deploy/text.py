"""Small pieces of wording shared by messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing when no known word is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def human_bytes(count: int) -> str:
    """1536 -> '1.5 kB'; powers of ten, as file managers and networks count."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def numbered(names: Iterable[str]) -> list[str]:
    """Names made unique: a repeat gets `_1`, `_2`, ... This is how outputs of one layer are called, by the
    reader of a file and by the loader of the live model alike."""
    found: list[str] = []
    for base in names:
        name, number = base, 0
        while name in found:
            number += 1
            name = f"{base}_{number}"
        found.append(name)
    return found


def printable(text: str) -> str:
    """`text` without what moves a terminal's cursor or changes its colours; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
