"""Printing for people: plain text where the output is not a terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_deploy.text import printable

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 160


def table(*columns: str) -> "Table":
    """A table without lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def say(what: Any) -> None:
    """Print a text as it is (nothing in it is markup), or a table."""
    from rich.console import Console
    from rich.text import Text

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(
        width=width, highlight=False, markup=False, emoji=False, soft_wrap=isinstance(what, str)
    )
    console.print(Text(printable(what)) if isinstance(what, str) else what)


def shown(path: Path) -> Path:
    """A path as a person would type it here: relative to the current folder if it lies below."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path
