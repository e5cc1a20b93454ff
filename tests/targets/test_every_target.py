"""What every target must obey, whatever it packages for."""

import shutil
import subprocess

import pytest

from pipcook_deploy import plugins
from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import BundleError, EngineMissingError, OutputError
from tests.bundles import write_small_bundle

HOSTILE = 'a "b"; $(touch x)`touch y`\n{z}'


@pytest.fixture(params=plugins.names(plugins.TARGETS))
def target(request, monkeypatch):
    def none(builder):
        raise EngineMissingError("no engine answers")

    # What an engine makes of it: tests/images.
    monkeypatch.setattr("pipcook_deploy.images.stage.connect", none)
    return plugins.target(request.param)()


@pytest.fixture
def bundle(tmp_path):
    return write_small_bundle(tmp_path / "bundle", name=HOSTILE)


def test_rendering_is_pure(target, bundle):
    assert target.render(bundle) == target.render(bundle)


def test_the_package_holds_the_bundle_and_the_rendered_files(target, bundle, tmp_path):
    package = target.package(bundle, tmp_path / "package")
    for name, text in target.render(bundle).items():
        assert (package.path / name).read_text() == text
    Bundle.open(package.path / "bundle").check_files()


def test_a_strangers_folder_is_left_alone(target, bundle, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "thesis").write_text("years of work")
    with pytest.raises(OutputError):
        target.package(bundle, tmp_path / "package")
    assert [path.name for path in (tmp_path / "package").iterdir()] == ["thesis"]


def test_packaging_again_replaces_the_package(target, bundle, tmp_path):
    target.package(bundle, tmp_path / "package")
    target.package(bundle, tmp_path / "package")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "package"]


def test_shell_scripts_take_no_command_from_a_name(target, bundle, tmp_path):
    package = target.package(bundle, tmp_path / "package")
    for script in package.path.glob("*.sh"):
        assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
        assert "touch" not in script.read_text()
    assert not (tmp_path / "x").exists()


def test_a_bundle_without_what_it_serves_is_refused(target, tmp_path):
    bundle = write_small_bundle(tmp_path / "bundle", format="tflite")
    with pytest.raises(BundleError, match="has no onnx artifact"):
        target.package(bundle, tmp_path / "package")
    assert not (tmp_path / "package").exists()
    shutil.rmtree(tmp_path / "bundle")
