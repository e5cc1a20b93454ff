"""Conformance, judged by clients that other people wrote: tritonclient and kserve.

They cannot share this project's environment (`requirements.txt` says why); `make test` makes theirs.
"""

import ast
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.server.ports import free_port
from tests.server import tiny_models

HERE = Path(__file__).parent
ENVIRONMENT = Path(sys.prefix, "clients")
PYTHON = ENVIRONMENT / "bin" / "python"
MADE = (ENVIRONMENT / ".complete").is_file()

pytestmark = pytest.mark.skipif(
    not MADE, reason="the clients' environment is missing; run: make clients"
)


def scale(folder, version, factor):
    return tiny_models.save(
        folder / version,
        "scale",
        [("Mul", ("in:x", "factor"), ("out:y",), {})],
        [tiny_models.tensor("x", "float32", None, 2)],
        [tiny_models.tensor("y", "float32", None, 2)],
        [("factor", np.array(factor, np.float32))],
        version=version,
    )


def half_echo(folder):
    return tiny_models.save(
        folder,
        "half_echo",
        [("Identity", ("in:x",), ("out:y",), {})],
        [tiny_models.tensor("x", "float16", None, 2)],
        [tiny_models.tensor("y", "float16", None, 2)],
    )


@contextmanager
def serving(folder):
    models = [tiny_models.echo(folder), tiny_models.halves(folder), half_echo(folder)]
    models += [tiny_models.slow(folder, rounds=200), scale(folder, "1", 2), scale(folder, "2", 3)]
    port = free_port("127.0.0.1", 0)
    command = [sys.executable, HERE / "many_models.py", str(port), *models]
    environment = {name: v for name, v in os.environ.items() if "PIPCOOK_DEPLOY" not in name}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("serving at "), line + process.stderr.read()
        yield line.removeprefix("serving at http://").strip(), f"127.0.0.1:{port}"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("models")) as found:
        yield found


@pytest.mark.parametrize("script", ["triton.py", "kserve_client.py"])
def test_every_check_of_a_client_passes(addresses, script):
    done = subprocess.run(
        [PYTHON, HERE / script, *addresses], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tree = ast.parse((HERE / script).read_text())
    checks = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args][:1] == ["http"]
    } - {"clients"}
    assert {line.removeprefix("passed ") for line in done.stdout.splitlines()} == checks
    assert len(checks) >= 8
