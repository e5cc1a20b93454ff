"""The npm package for Pipcook's artifact step: its own tests, driven from here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "integrations" / "pipcook"
PROGRAM = Path(sys.executable).with_name("pipcook-deploy")

pytestmark = pytest.mark.node


def node_test(pattern: str, **environment: str) -> str:
    command = ["node", "--test", "--test-reporter=tap", f"--test-name-pattern={pattern}"]
    done = subprocess.run(
        command,
        cwd=PACKAGE,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(report: str) -> int:
    skipped = sum("# SKIP" in line for line in report.splitlines())
    return sum(line.startswith("ok ") for line in report.splitlines()) - skipped


def test_its_own_tests_pass():
    assert passed(node_test("^(?!the real)")) >= 8


@pytest.mark.heavy
def test_a_pipeline_ends_in_a_bundle_of_the_real_command_line():
    assert passed(node_test("^the real", TEST_PIPCOOK_DEPLOY=str(PROGRAM))) == 2


def test_what_is_published():
    npm = shutil.which("npm")
    assert npm is not None
    done = subprocess.run(
        [npm, "pack", "--dry-run", "--json"],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=True,
    )
    (package,) = json.loads(done.stdout)
    names = {file["path"] for file in package["files"]}
    assert names == {"README.md", "command.js", "index.d.ts", "index.js", "package.json"}
