"""What a search has done already: it goes on there after an interruption."""

import fcntl
import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipcook_deploy.errors import OutputError

ABOUT = "about.json"
RESULTS = "results.jsonl"
LOCK = "lock"


def check_place(path: Path) -> None:
    """Raises `OutputError` for what is there and is no search's: it is the user's."""
    if not path.is_symlink() and not path.exists():
        return
    if not path.is_symlink() and path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if names <= {LOCK} or {LOCK, ABOUT} <= names:
            return
    raise OutputError(
        f"{path}: is there already and was not made by a search; it is left alone",
        "rename it, or choose another --out",
    )


class Journal:
    """A folder for files, and a line for every result that is whole.

    `about` is what all results depend on (source, data, versions): when it is another one, the folder is
    emptied. Use as a context manager: one program at a time works in a folder; raises `OutputError` otherwise,
    and for a folder that no search made.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self._about = json.dumps(about, sort_keys=True, indent=1) + "\n"
        self._results: dict[str, Any] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        self.resumed = 0

    def __enter__(self) -> "Journal":
        check_place(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take()
        if self._read(ABOUT) != self._about:
            self._clear()
            (self.folder / ABOUT).write_text(self._about)
        for line in self._read(RESULTS).splitlines():
            try:
                row = json.loads(line)
                self._results[row["key"]] = row["value"]
            except (ValueError, LookupError, TypeError):
                continue  # the line that was being written when the program ended
        self.resumed = len(self._results)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def remember(self, key: str, make: Callable[[], Any]) -> Any:
        """The result of `make`, which is JSON, computed once for a key."""
        with self._lock:
            lock = self._locks[key]
        with lock:
            if key not in self._results:
                value = json.loads(json.dumps(make()))
                with self._lock:
                    self._append(key, value)
                    self._results[key] = value
            return self._results[key]

    def place(self, name: str) -> Path:
        """An empty folder for what `make` writes; what an interrupted run left there is removed."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def remove(self) -> None:
        """The search is over and what it found is elsewhere. Call it afterwards, not inside the `with` block.

        A folder that another run took up meanwhile is left to that one.
        """
        with suppress(OutputError):
            self._take()
            shutil.rmtree(self.folder, ignore_errors=True)
            self._held.close()

    def _take(self) -> None:
        path = self.folder / LOCK
        with suppress(FileNotFoundError):  # removed by a run that just ended
            held = path.open("w")
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(held.fileno()).st_ino == path.stat().st_ino:
                    self._held = held
                    return
            held.close()
        raise OutputError(
            f"{self.folder}: another run is searching there",
            "wait for it, or choose another --out",
        )

    def _append(self, key: str, value: Any) -> None:
        if self._held.closed:  # a thread that outlived its run: the folder may be another's by now
            raise OutputError(f"{self.folder}: the search there has ended")
        path = self.folder / RESULTS
        text = path.read_bytes() if path.exists() else b""
        with path.open("ab") as stream:
            if text and not text.endswith(b"\n"):
                stream.write(b"\n")  # after a torn line
            stream.write(json.dumps({"key": key, "value": value}).encode() + b"\n")

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _clear(self) -> None:
        # What is left after an interruption here is still a search's folder, of nothing.
        (self.folder / ABOUT).write_text("")
        for path in self.folder.iterdir():
            if path.name not in (LOCK, ABOUT):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
