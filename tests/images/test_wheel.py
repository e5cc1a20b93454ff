"""The wheel that goes into images: made of the files that run here, whole, and always the same."""

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import pipcook_deploy
from pipcook_deploy.images.wheel import _modules, wheel_bytes, wheel_name

ROOT = Path(__file__).resolve().parents[2]
INFO = f"pipcook_deploy-{pipcook_deploy.__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel():
    with zipfile.ZipFile(io.BytesIO(wheel_bytes())) as archive:
        yield archive


def digest_elsewhere(folder, **environment):
    code = (
        "import hashlib; from pipcook_deploy.images.wheel import wheel_bytes\n"
        "print(hashlib.sha256(wheel_bytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_the_same_wherever_and_whenever_it_is_made(tmp_path):
    # In a checkout there may be a folder *.egg-info, which is found there first.
    here = hashlib.sha256(wheel_bytes()).hexdigest()
    assert digest_elsewhere(ROOT, PYTHONHASHSEED="1") == here
    assert digest_elsewhere(tmp_path, PYTHONHASHSEED="2", TZ="Asia/Tokyo") == here


def test_notes_of_setuptools_do_not_stand_for_what_was_installed(tmp_path):
    notes = tmp_path / "pipcook_deploy.egg-info"
    notes.mkdir()
    (notes / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: pipcook-deploy\nVersion: 0.0.1\n")
    assert digest_elsewhere(tmp_path) == hashlib.sha256(wheel_bytes()).hexdigest()


def test_its_name_is_a_wheels():
    assert re.fullmatch(r"pipcook_deploy-[0-9][0-9a-z.]*-py3-none-any\.whl", wheel_name())
    assert wheel_name().split("-")[1] == pipcook_deploy.__version__


def test_its_record_lists_every_file_with_its_hash(wheel):
    rows = list(csv.reader(io.StringIO(wheel.read(f"{INFO}/RECORD").decode())))
    assert [row[0] for row in rows] == wheel.namelist()
    assert len(set(wheel.namelist())) == len(rows)
    *others, own = rows
    assert own == [f"{INFO}/RECORD", "", ""]
    for name, digest, size in others:
        data = wheel.read(name)
        found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={found}", str(len(data)))


def test_it_says_what_the_project_is(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = wheel.read(f"{INFO}/METADATA").decode()
    assert f"\nVersion: {project['version']}\n" in about
    assert "\nName: pipcook-deploy\n" in about
    assert wheel.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    points = wheel.read(f"{INFO}/entry_points.txt").decode()
    assert "pipcook-deploy = pipcook_deploy.cli:main" in points
    assert "Metadata-Version" not in points
    assert "Root-Is-Purelib: true" in wheel.read(f"{INFO}/WHEEL").decode()


def test_it_holds_the_files_of_the_checkout_and_no_leftovers(wheel):
    held = {name for name in wheel.namelist() if not name.startswith(INFO)}
    assert not [name for name in held if re.search(r"__pycache__|\.pyc$|node_modules|tests/", name)]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "pipcook_deploy", "converters", "targets", "dockerfiles"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    tracked = [name for name in listed if (ROOT / name).exists()]
    expected = {
        name if name.startswith("pipcook_deploy/") else f"pipcook_deploy/{name}": name
        for name in tracked
    }
    assert held == set(expected)
    for name, path in expected.items():
        assert wheel.read(name) == (ROOT / path).read_bytes()


def test_what_python_and_node_leave_behind_is_not_packed(tmp_path, monkeypatch):
    for name in ("module.py", "__pycache__/module.pyc", "deep/node_modules/x/index.js"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    package = SimpleNamespace(__path__=[str(tmp_path)])
    monkeypatch.setattr("pipcook_deploy.images.wheel.import_module", lambda name: package)
    assert {Path(name).name for name, _ in _modules()} == {"module.py"}


def test_every_file_has_the_same_time_and_mode(wheel):
    assert {info.date_time for info in wheel.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.external_attr >> 16 for info in wheel.infolist()} == {0o100644}


def test_pip_installs_it_and_it_runs(tmp_path):
    (tmp_path / wheel_name()).write_bytes(wheel_bytes())
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install"]
    quiet = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, *quiet, str(tmp_path / wheel_name())], check=True, cwd=tmp_path)
    (site,) = place.glob("lib/python*/site-packages")
    for below in ("converters/to_onnx.py", "targets/docker_image.py", "dockerfiles/Dockerfile.in",
                  "dockerfiles/locks/server.txt", "dockerfiles/images.toml", "dockerfiles/layers/not_copied.txt",
                  "targets/local_server_files", "server/page", "runtimes/tfjs", "py.typed"):  # fmt: skip
        assert (site / "pipcook_deploy" / below).exists(), below
    # Its dependencies are those of this environment, behind its own packages.
    own = next(path for path in sys.path if (Path(path) / "click").is_dir())
    (site / "dependencies.pth").write_text(f"{own}\n")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    def run(*command):
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python = place / "bin" / "python"
    assert run(python, "-c", "import pipcook_deploy; print(pipcook_deploy.__file__)").startswith(
        str(site)
    )
    said = run(place / "bin" / "pipcook-deploy", "--version")
    assert pipcook_deploy.__version__ in said
    assert "docker" in run(place / "bin" / "pipcook-deploy", "plugins")
    code = "from pipcook_deploy.images.wheel import wheel_bytes as w; import hashlib; print(hashlib.sha256(w()).hexdigest())"
    again = run(python, "-c", code).strip()
    assert again == hashlib.sha256(wheel_bytes()).hexdigest()
