"""The live display of a run: a table on a terminal, a line per task elsewhere."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from pipcook_deploy.errors import DeployError
from pipcook_deploy.schedule import Listener
from pipcook_deploy.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType


@contextmanager
def watched(*, quiet: bool = False) -> Iterator[Listener]:
    """A listener for the time of a block, writing to standard error."""
    if quiet:
        yield Listener()
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    table = _Table()
    with Live(get_renderable=table.render, console=Console(stderr=True), refresh_per_second=8):
        yield table


class _Lines(Listener):
    """One plain line for each task that ended, and for each new thing that a long one did."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def chosen(self, chains: list[str]) -> None:
        for chain in chains:
            self._say(f"plan    {chain}")

    def noted(self, text: str) -> None:
        self._say(f"note    {text}")

    def planned(self, names: list[str]) -> None:
        if len(names) > 1:
            self._say(f"{len(names)} tasks")

    def advanced(self, name: str, text: str, done: int, total: int | None) -> None:
        if self._last.get(name) != text or done == total:
            self._say(f"        {done:3d}{'' if total is None else f' of {total}'}  {text}")
        self._last[name] = text

    def finished(self, name: str, seconds: float) -> None:
        self._say(f"ok      {seconds:5.1f} s  {name}")

    def failed(self, name: str, error: DeployError) -> None:
        self._say(f"failed           {name}: {error.message.splitlines()[0]}")

    def skipped(self, name: str) -> None:
        self._say(f"skipped          {name}")

    def _say(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


class _Table(Listener):
    """The state of every task, redrawn while they run."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, float]] = {}
        self._texts: dict[str, tuple[str, int, int | None]] = {}
        self._chains: list[str] = []
        self._notes: list[str] = []
        self._lock = threading.Lock()

    def chosen(self, chains: list[str]) -> None:
        self._chains = chains

    def noted(self, text: str) -> None:
        self._notes.append(text)

    def planned(self, names: list[str]) -> None:
        with self._lock:
            self._rows |= dict.fromkeys(names, ("waiting", 0.0))

    def started(self, name: str) -> None:
        self._set(name, "running", perf_counter())

    def finished(self, name: str, seconds: float) -> None:
        self._set(name, "ok", seconds)

    def advanced(self, name: str, text: str, done: int, total: int | None) -> None:
        with self._lock:
            self._texts[name] = text, done, total

    def failed(self, name: str, error: DeployError) -> None:
        self._set(name, "failed", 0.0)

    def skipped(self, name: str) -> None:
        self._set(name, "skipped", 0.0)

    def render(self) -> "RenderableType":
        """The table as it is now."""
        from rich.table import Table
        from rich.text import Text

        styles = {"ok": "green", "failed": "bold red", "running": "cyan", "skipped": "yellow"}
        table = Table(box=None, show_header=False, pad_edge=False)
        for chain in self._chains:
            table.add_row(Text("plan", style="dim"), Text(chain, style="dim"), "")
        for note in self._notes:
            table.add_row(Text("note", style="dim"), Text(note, style="dim"), "")
        with self._lock:
            rows, texts = list(self._rows.items()), dict(self._texts)
        for name, (state, value) in rows:
            seconds = perf_counter() - value if state == "running" else value
            took = f"{seconds:.1f} s" if state in ("running", "ok") else ""
            style = styles.get(state, "dim")
            table.add_row(
                Text(state, style=style), Text(name, style=style), Text(took, style="dim")
            )
            if state == "running" and name in texts:
                table.add_row("", Text(_progress(*texts[name], seconds), style="dim"), "")
        return table

    def _set(self, name: str, state: str, value: float) -> None:
        with self._lock:
            self._rows[name] = (state, value)


def _progress(text: str, done: int, total: int | None, seconds: float) -> str:
    """`5 of 14, at most about 40 s left: ...`; a search ends as soon as something good is found."""
    if total is None or not done or total < done:
        return f"{done}: {text}"
    left = seconds / done * (total - done)
    return f"{done} of {total}, at most about {left:.0f} s left: {text}"
