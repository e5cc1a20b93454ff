"""What scenarios are given, and what they give."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.table import Bar


@dataclass(frozen=True)
class Plan:
    """How long and how often. `seconds` of load each, `rounds` of all contestants in turns."""

    rounds: int = 3
    seconds: float = 5.0
    connections: int = 16
    overload_seconds: float = 60.0
    peers: Sequence[str] = ()  # all if none is named


@dataclass
class Result:
    """Lines to print, bars, and the figures behind them. `failed`: contestant to reason."""

    lines: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    """NaN for none: what was not measured meets no bar."""
    return statistics.median(values) if values else float("nan")
