"""What every test shares: the environment of a worker, and skips that say why."""

import os
import shutil
from collections.abc import Iterator

import pytest

from pipcook_deploy.jobs.zygote import ENVIRONMENT
from tests.twins import Twins, made

# Tests call converters in their own process, so they get the environment of a worker.
os.environ.update(ENVIRONMENT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Heavy tests last: a broken unit is told first."""
    slow = ("heavy", "node", "engine")
    items.sort(key=lambda item: any(mark.name in slow for mark in item.iter_markers()))


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
