"""Draws with matplotlib into SVG that stands in a page: its colours are the page's, its bytes always the same."""

import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# What is drawn in these colours gets the page's own, which differ by day, by night and on paper.
INK, SOFT, LINE, CARD = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#0a0101", "#0a0202", "#0a0303", "#0a0404", "#0a0505", "#0a0606")
_THEME = {
    INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", CARD: "var(--card)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)},
}  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P")

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label is what it says, dollars and all
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": "none",
}


def drawn(name: str, width: float, height: float, draw: Callable[[Any], None]) -> str:
    """An `<svg>` element of `width` by `height` inches, on whose axes `draw` has drawn.

    `name` sets its identifiers apart from other drawings of the page.
    """
    matplotlib = load_matplotlib()
    with (
        matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _embeddable(buffer.getvalue())


def load_matplotlib() -> Any:
    """matplotlib, which leaves nothing in a home folder where it has not been at home before."""
    if "matplotlib.font_manager" in sys.modules or "MPLCONFIGDIR" in os.environ or _at_home():
        return _import()
    with tempfile.TemporaryDirectory(prefix="pipcook-deploy-") as scratch:
        os.environ["MPLCONFIGDIR"] = scratch
        try:
            return _import()
        finally:
            del os.environ["MPLCONFIGDIR"]


def _import() -> Any:
    import matplotlib
    import matplotlib.backends.backend_svg
    import matplotlib.figure
    import matplotlib.font_manager

    # Each looks for its folder when it is first asked for, and remembers it.
    matplotlib.get_configdir(), matplotlib.get_cachedir(), matplotlib.font_manager.fontManager
    return matplotlib


def _at_home() -> bool:
    """Whether the user has a font list of matplotlib already."""
    with suppress(RuntimeError):  # no home
        home = Path.home()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
        folders = cache / "matplotlib", home / ".matplotlib"
        return any(next(folder.glob("fontlist*.json"), None) for folder in folders)
    return False


def _embeddable(svg: str) -> str:
    """Without what only a file needs: declarations, metadata, fixed size, identifiers that nothing refers to."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r"<[^>]*>", lambda tag: _shorter(tag[0]), body)
    return " ".join(re.sub(r">\s+<", "><", body).split())


def _shorter(tag: str) -> str:
    for colour, variable in _THEME.items():
        tag = tag.replace(colour, variable)
    return re.sub(
        r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag
    )
