import sys
from pathlib import Path

import pytest

from pipcook_deploy import tools
from pipcook_deploy.errors import ConversionError, MissingDependencyError
from pipcook_deploy.run import run

pytestmark = pytest.mark.alone


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIPCOOK_DEPLOY_HOME", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(0o755)
    return file


def test_what_is_not_installed_says_how_to_install_it(home: Path) -> None:
    with pytest.raises(MissingDependencyError, match="pipcook-deploy setup node"):
        tools.node_packages()
    with pytest.raises(MissingDependencyError, match="pipcook-deploy setup tensorflowjs"):
        tools.reference_converter()


def test_packages_of_another_version_do_not_count(home: Path) -> None:
    (home / "node").mkdir()
    (home / "node" / ".complete").write_text("older")
    with pytest.raises(MissingDependencyError, match="in another version"):
        tools.node_packages()


@pytest.mark.parametrize(("version", "message"), [("v18.19.0", "too old"), ("what", "too old")])
def test_old_node_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, message: str
) -> None:
    node = program(tmp_path, "node", f"print({version!r})")
    monkeypatch.setenv("NODE", str(node))
    with pytest.raises(MissingDependencyError, match=message):
        tools.find_node()


def test_no_node_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE", "no-such-node")
    with pytest.raises(MissingDependencyError, match="install Node 20"):
        tools.find_node()


def test_node_packages_are_installed_once_and_whole(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = tmp_path_factory.mktemp("bin")
    program(bin_folder, "node", "print('v20.1.0')")
    npm = program(bin_folder, "npm", "raise SystemExit('registry is down')")
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.delenv("NODE", raising=False)
    with pytest.raises(tools.SetupError, match="registry is down"):
        tools.install_node_packages()
    assert list(home.iterdir()) == []
    npm.write_text(
        f"#!{sys.executable}\nimport os, sys\nassert sys.argv[1] == 'ci'\nos.mkdir('node_modules')"
    )
    assert tools.install_node_packages() == home / "node" == tools.node_packages()
    assert (home / "node" / "node_modules").is_dir()
    npm.write_text(f"#!{sys.executable}\nraise SystemExit('a second time')")
    assert tools.install_node_packages() == home / "node"


def test_the_reference_pins_are_those_of_the_extra() -> None:
    assert "tensorflowjs==4.22.0" in tools.reference_pins()
    assert not any("pytest" in pin for pin in tools.reference_pins())


def test_run_keeps_the_output_for_the_error_and_passes_arguments_as_they_are() -> None:
    odd = 'a "b"; $(touch x)'
    code = "import sys; print(sys.argv[1])"
    assert run([sys.executable, "-c", code, odd]).strip() == odd
    with pytest.raises(ConversionError, match="exit code 3") as raised:
        run([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"])
    assert raised.value.hint == "the reason"
    with pytest.raises(MissingDependencyError):
        run(["no-such-program"])


def test_run_stops_what_takes_too_long_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(mark)!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(ConversionError, match="stopped after"):
        run([sys.executable, "-c", code], timeout=0.5)
    import time

    time.sleep(1.5)
    assert not mark.exists()
