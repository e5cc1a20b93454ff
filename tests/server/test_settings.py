"""The limits and choices themselves: on the command line, and for those who call `serve`."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from pipcook_deploy.cli import serving
from pipcook_deploy.errors import UsageError
from pipcook_deploy.server import Settings, serve
from tests.server import scale_bundles


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "--workers: 0 is not from 1"),
        ({"max_queue": -1}, "--max-queue: -1 is not from 1"),
        ({"body_timeout": -0.5}, "--body-timeout: -0.5 is not from 0"),
        ({"queue_seconds": float("nan")}, "--queue-seconds: nan is not from 0"),
        ({"grpc_port": 70000}, "--grpc-port: 70000 is not from 0 to 65535"),
    ],
)
def test_numbers_that_make_no_sense(settings, words):
    with pytest.raises(UsageError, match=f"^{words}"):
        Settings(**settings)


def test_they_end_the_command_line_without_a_traceback(tmp_path):
    bundle = scale_bundles.write(tmp_path / "one", 1)
    for module, more in (
        ("pipcook_deploy", ["serve", str(bundle)]),
        ("pipcook_deploy.server", ["--spec", "x", "--artifact", "x"]),
    ):
        command = [sys.executable, "-m", module, *more, "--workers", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == UsageError.exit_code
        assert "--workers: 0" in done.stderr and "Traceback" not in done.stderr


def test_a_default_model_has_to_be_there():
    with pytest.raises(UsageError, match="--default-model: there is no model 'hats'"):
        serve([], settings=Settings(default_model="hats"))


def test_the_help_shows_no_empty_defaults():
    text = CliRunner().invoke(serving.serve, ["--help"]).output
    assert "--tls-cert" in text and '[default: ""]' not in text
