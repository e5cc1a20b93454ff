"""What is installed is what was written: packages, data files, entry points."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = ("pipcook_deploy", "converters", "targets", "dockerfiles")


def _pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _import_name(folder):
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "pipcook_deploy" else ("pipcook_deploy", *parts))


def test_every_package_folder_is_listed():
    found = {
        _import_name(init.parent) for top in MAPPED for init in (ROOT / top).rglob("__init__.py")
    }
    assert found == set(_pyproject()["tool"]["setuptools"]["packages"])


def test_every_folder_with_modules_is_a_package():
    for top in MAPPED:
        for module in (ROOT / top).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


@pytest.mark.parametrize("group", ["converters", "runtimes", "targets"])
def test_every_entry_point_loads(group):
    points = entry_points(group=f"pipcook_deploy.{group}")
    declared = _pyproject()["project"]["entry-points"][f"pipcook_deploy.{group}"]
    assert {point.name for point in points} >= set(declared)
    for point in points:
        assert isinstance(point.load(), type)


def test_loading_plugins_loads_no_framework():
    code = (
        "import sys; from pipcook_deploy import plugins as p\n"
        "[p.converter(n) for n in p.names(p.CONVERTERS)]; p.runtimes()\n"
        "[p.target(n) for n in p.names(p.TARGETS)]\n"
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'onnx', 'onnxruntime', 'tf2onnx'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_loads_neither_a_framework_nor_pydantic():
    code = (
        "import sys; from pipcook_deploy.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'onnxruntime', 'pydantic', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _tracked(*below):
    """Files of the working tree that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *below]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    # Of a copy: setuptools also packs what an older tree left in build/.
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in _tracked(*MAPPED, "pyproject.toml", "README.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out), str(source)],
        check=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.heavy
def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    expected = {
        name if name.startswith("pipcook_deploy/") else f"pipcook_deploy/{name}"
        for name in _tracked(*MAPPED)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


@pytest.mark.heavy
def test_the_wheel_works_in_a_clean_environment_without_tensorflow(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            str(ROOT / "constraints.txt"),
            str(wheel),
        ],
        check=True,
    )
    command = tmp_path / "venv" / "bin" / "pipcook-deploy"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments):
        return subprocess.run(
            [command, *arguments], capture_output=True, text=True, cwd=tmp_path, env=env
        )

    plugins = run("plugins")
    assert plugins.returncode == 0, plugins.stderr
    assert "onnx" in plugins.stdout
    keras = ROOT / "examples" / "fashion-mnist" / "model.keras"
    assert run("inspect", str(keras)).returncode == 0
    convert = run("convert", str(keras), "--to", "onnx", "--out", "b")
    assert convert.returncode == 6
    assert "pip install 'pipcook-deploy[tensorflow]'" in convert.stderr
    assert not (tmp_path / "b").exists()
