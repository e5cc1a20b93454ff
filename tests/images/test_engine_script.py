"""The script that starts an engine for the tests: what it says where it cannot, and what it lets others use."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("engine.sh")
BASH = shutil.which("bash") or "bash"


def run(*arguments, **environment):
    return subprocess.run(
        [BASH, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": "/nowhere", "PATH": os.environ["PATH"]} | environment,
    )


def test_it_is_bash():
    done = subprocess.run([BASH, "-n", str(SCRIPT)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_can_be_run():
    assert os.access(SCRIPT, os.X_OK)


def test_no_warning_of_shellcheck():
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck is not installed: make setup")
    for script in (SCRIPT, SCRIPT.parents[2] / ".ci" / "run"):
        done = subprocess.run([str(program), str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_machine_without_apt_cannot_and_says_why(tmp_path):
    done = run("can", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("no container engine for the tests: it needs ")
    assert done.stderr == ""
    if os.geteuid() == 0 and "bookworm" in Path("/etc/os-release").read_text():
        assert done.stdout.endswith(" apt-get\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_who_is_not_root_cannot(tmp_path):
    copy = tmp_path / "engine.sh"  # the checkout may be closed to others
    shutil.copy(SCRIPT, copy)
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    done = subprocess.run(
        [BASH, str(copy), "can"], capture_output=True, text=True, user=65534, group=65534, cwd="/"
    )
    assert done.returncode == 1, done.stderr
    assert "it needs" in done.stdout


@pytest.mark.parametrize("command", ["up", "down"])
def test_where_it_cannot_nothing_is_written(command, tmp_path):
    empty, state = tmp_path / "empty", tmp_path / "state"
    empty.mkdir()
    done = run(command, PATH=str(empty), STATE=str(state))
    assert done.returncode == 1
    assert "it needs" in done.stderr
    assert not state.exists()


def test_down_when_nothing_is_up(tmp_path):
    if run("can").returncode:
        pytest.skip("this machine runs no engine")
    done = run("down", STATE=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_its_environment_is_for_any_folder(tmp_path):
    state = tmp_path / 'a "b"; $(touch x)'
    shell = (
        'DOCKER_CONTEXT=x DOCKER_TLS_VERIFY=1; eval "$("$@" env)" && '
        'printf "%s\\n" "$DOCKER_HOST" "$DOCKER_CONFIG" "$PATH" "${DOCKER_CONTEXT-unset}" "${DOCKER_TLS_VERIFY-unset}"'
    )
    done = subprocess.run(
        [BASH, "-euc", shell, "-", BASH, str(SCRIPT)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"STATE": str(state)},
    )
    assert done.returncode == 0, done.stderr
    host, config, path, *unset = done.stdout.splitlines()
    assert host == f"unix://{state}/run/docker.sock"
    assert config == f"{state}/config"
    assert path == f"{state}/trixie/usr/bin:{os.environ['PATH']}"
    assert unset == ["unset", "unset"]
    assert list(tmp_path.iterdir()) == []


def test_its_folder_is_in_the_cache_of_the_user():
    assert "unix:///nowhere/.cache/pipcook-deploy-engine/run/" in run("env").stdout
    assert "unix:///cache/pipcook-deploy-engine/run/" in run("env", XDG_CACHE_HOME="/cache").stdout


@pytest.mark.parametrize("arguments", [[], ["start"], [""]])
def test_another_word_gets_the_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    for command in ("can", "up", "env", "down"):
        assert f"engine.sh {command}" in done.stderr


def test_an_engine_it_does_not_know_is_refused(tmp_path):
    if run("can").returncode:
        pytest.skip("this machine runs no engine")
    done = run("up", ENGINE="sid", STATE=str(tmp_path / "state"))
    assert done.returncode == 1
    assert done.stderr == "ENGINE is trixie or bookworm, not sid\n"
