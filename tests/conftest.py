"""What every test shares: the environment of a worker, and skips that say why."""

import fcntl
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipcook_deploy.jobs.zygote import ENVIRONMENT
from tests.twins import Twins, made

# Tests call converters in their own process, so they get the environment of a worker.
os.environ.update(ENVIRONMENT)


HERE = Path(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Heavy files last: a broken unit is told first. Files whose tests are to be alone before all others."""
    heavy = {item.path for item in items if _marked(item, "heavy", "node", "engine")}
    alone = {item.path for item in items if _marked(item, "alone")}
    items.sort(key=lambda item: (item.path not in alone, item.path in heavy))


def _marked(item: pytest.Item, *names: str) -> bool:
    return any(mark.name in names for mark in item.iter_markers())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Of several workers (`pytest -n 2`) none runs a test while one that is to be alone runs."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with _turn(alone=_marked(item, "alone")):
        return (yield)


@contextmanager
def _turn(*, alone: bool) -> Iterator[None]:
    room, door = os.open(HERE, os.O_RDONLY), os.open(HERE.parent, os.O_RDONLY)
    try:
        # Who waits for the room holds the door: nobody goes in before him again and again.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
    finally:
        for lock in (door, room):
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child that a test forked may have it open still
            os.close(lock)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser; a machine without one skips, and says so."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """A model whose tensors only names tell apart, in every format."""
    with made(tmp_path_factory.mktemp("twins")) as found:
        yield found
