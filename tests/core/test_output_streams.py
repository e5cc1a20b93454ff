"""What the command line does when nobody can read what it prints."""

import shlex
import subprocess
import sys

import pytest

from pipcook_deploy.errors import OutputError
from pipcook_deploy.files import staged_folder

COMMAND = f"{shlex.quote(sys.executable)} -m pipcook_deploy plugins"


@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        (">&-", 0),
        (">/dev/full", 8),
        ("--json >/dev/full", 8),
        ("--json 2>&- >/dev/full", 8),
        (">/dev/full 2>/dev/full", 8),
    ],
)
def test_streams_that_take_nothing(redirect, code):
    done = subprocess.run(f"{COMMAND} {redirect}", shell=True, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("name", ["x" * 300, "file/x"])
def test_a_place_that_cannot_be(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), staged_folder(tmp_path / name):
        pytest.fail("entered")
