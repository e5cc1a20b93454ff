"""The examples of docs/serving-protocols.md, run as they stand there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.server import cloud_models, tiny_models

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving-protocols.md"
MODELS = {"half_plus_three": cloud_models.half_plus_three, "colours": tiny_models.colours}
DOCUMENTED = "http://127.0.0.1:9091"


def examples():
    """(model, command, expected output) in the document's order, by model."""
    model, found = "", {}
    lines = iter([*DOCUMENT.read_text().splitlines(), ""])
    for line in lines:
        if match := re.fullmatch(r"<!-- model: (\w+) -->", line):
            model = match[1]
        if line.startswith("    $ "):
            output = []
            for answer in lines:
                if not answer.startswith("    "):
                    break
                output.append(answer.removeprefix("    "))
            found.setdefault(model, []).append((line.removeprefix("    $ "), "\n".join(output)))
    return found


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("model", MODELS)
def test_examples_answer_what_is_printed(model, tmp_path, monkeypatch):
    for name, value in re.findall(r"(AIP_\w+)=(\S+)", DOCUMENT.read_text()):
        monkeypatch.setenv(name, value)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    commands = examples()[model]
    assert len(commands) > 3
    with tiny_models.serving(MODELS[model](tmp_path), "--host", "127.0.0.1") as server:
        for command, expected in commands:
            assert DOCUMENTED in command
            shell = [
                "bash",
                "-c",
                command.replace(DOCUMENTED, server.url).replace("curl", "curl -sS"),
            ]
            done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=20)
            assert done.stdout.strip() == expected, (command, done.stderr)
