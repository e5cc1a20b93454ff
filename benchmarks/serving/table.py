"""Bars and how they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """One thing that is asked of the server. `met` is None for what is only told."""

    what: str
    figure: str
    wanted: str = ""
    met: bool | None = None
    why: str = ""

    @property
    def verdict(self) -> str:
        """In words."""
        words = {True: "met", False: "NOT met", None: ""}[self.met]
        return f"{words}: {self.why}" if self.why else words

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


def at_least(what: str, value: float, bar: float | None, unit: str = "x") -> Bar:
    """A ratio that has to be reached."""
    if bar is None:
        return Bar(what, f"{value:.2f}{unit}")
    return Bar(what, f"{value:.2f}{unit}", f">= {bar:g}{unit}", value >= bar)


def at_most(what: str, value: float, bar: float, unit: str) -> Bar:
    """A figure that must not be passed."""
    return Bar(what, f"{value:.2f} {unit}", f"<= {bar:g} {unit}", value <= bar)


def unmeasured(what: str, wanted: str, why: str) -> Bar:
    """A bar that is not met, for there is no figure."""
    return Bar(what, "-", wanted, False, why[:200])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right, the last as it comes."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def failed(reasons: Mapping[str, str], width: int) -> list[tuple[str, ...]]:
    """Rows of `width` columns for what could not be measured."""
    return [(name, *["-"] * (width - 2), f"FAILED: {why}") for name, why in reasons.items()]


def verdicts(bars: Sequence[Bar]) -> str:
    """All bars, one a line."""
    rows = [("bar", "measured", "asked", "")]
    rows += [(bar.what, bar.figure, bar.wanted, bar.verdict) for bar in bars]
    return columns(rows)
