"""Lock files written anew, by a stand-in for uv that says what it was asked."""

import json
import os
import sys

import pytest

from pipcook_deploy.dockerfiles import update_locks

UV = """import json, sys
wanted = sys.stdin.read()
if "bad" in wanted:
    sys.exit("no version of bad fits")
print(json.dumps({"arguments": sys.argv[1:], "wanted": wanted.split("\\n")}))
print("a warning", file=sys.stderr)
"""


@pytest.fixture
def locks(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -I\n{UV}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setattr(update_locks, "LOCKS", folder)
    return folder


def test_each_row_gets_a_file_with_hashes_of_the_versions_that_the_tests_run(locks):
    (locks / "requirements.toml").write_text('server = ["a", "b[x]"]\ngrpc = ["c"]\n')
    assert update_locks.main() == 0
    assert sorted(path.name for path in locks.glob("*.txt")) == ["grpc.txt", "server.txt"]
    asked = json.loads((locks / "server.txt").read_text())
    assert asked["wanted"] == ["a", "b[x]"]
    assert asked["arguments"][:2] == ["pip", "compile"]
    assert asked["arguments"][-1] == "-"
    needed = {"--generate-hashes", "--universal", "--constraints=constraints.txt"}
    assert needed <= set(asked["arguments"])


def test_a_row_that_cannot_be_resolved_leaves_its_file_and_says_why(locks, capsys):
    (locks / "requirements.toml").write_text('server = ["bad"]\n')
    (locks / "server.txt").write_text("as it was")
    assert update_locks.main() == 1
    assert (locks / "server.txt").read_text() == "as it was"
    assert capsys.readouterr().err.startswith("server: no version of bad fits")
