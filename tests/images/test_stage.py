"""The whole way into an image, with an engine whose containers are processes: what is left when something fails."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.cli import main
from pipcook_deploy.errors import (
    BootError,
    BundleError,
    EngineMissingError,
    ImageError,
    MissingDependencyError,
    OutputError,
    UsageError,
)
from pipcook_deploy.images import boot
from pipcook_deploy.images.engine import Image
from pipcook_deploy.images.record import ImageRecord
from pipcook_deploy.package import package_one
from tests.bundles import write_small_bundle
from tests.images.process_engine import ProcessEngine
from tests.server import scale_bundles

NAME = "scale:1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return scale_bundles.write(tmp_path_factory.mktemp("bundle") / "b", 3)


@pytest.fixture
def engine(monkeypatch):
    engine = ProcessEngine()
    monkeypatch.setattr("pipcook_deploy.images.stage.connect", lambda builder: engine)
    return engine


@pytest.fixture
def quick(monkeypatch):
    """Without the starts of the platforms, which take a second each: test_boot.py has them."""
    starts = boot.starts
    monkeypatch.setattr(boot, "starts", lambda options: starts(options)[:1])


def package(bundle, out, **options):
    return package_one(Bundle.open(bundle), "docker", options, out)


def test_an_image_gets_its_names_after_its_boot_test(made, engine, quick, tmp_path):
    package_ = package(made, tmp_path / "p")
    record = ImageRecord.load(tmp_path / "p" / "image.json")
    assert package_.image == record
    assert set(engine.names) == set(record.tags)
    assert record.tags[0] == NAME and record.tags[1].startswith(f"{NAME}-")
    assert record.content.startswith(record.tags[1].rpartition("-")[2])
    assert record.boot is not None and record.boot.drain.lost == 0
    assert [layer.what for layer in record.layers][3] == "model"
    assert package_.command[-1] == NAME
    assert (tmp_path / "p" / "sbom.cdx.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p"]


def test_an_image_that_fails_its_boot_test_is_not_kept(made, engine, quick, tmp_path):
    before = Image("sha256:" + "9" * 64, (), {})
    engine.names[NAME] = before
    engine.serves = scale_bundles.write(tmp_path / "other", 4)
    with pytest.raises(BootError, match="other answers than the bundle recorded"):
        package(made, tmp_path / "p")
    assert engine.names == {NAME: before}  # who has the name keeps it
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-model", "other"]


def test_an_older_package_stays_when_a_new_one_fails(made, engine, quick, tmp_path):
    package(made, tmp_path / "p")
    before = (tmp_path / "p" / "image.json").read_bytes()
    engine.serves = scale_bundles.write(tmp_path / "other", 4)
    with pytest.raises(BootError):
        package(made, tmp_path / "p")
    assert (tmp_path / "p" / "image.json").read_bytes() == before


def test_the_same_bundle_gives_the_same_context(made, engine, tmp_path):
    for name in ("a", "b"):
        package(made, tmp_path / name, build=False)
    done = subprocess.run(["diff", "-r", tmp_path / "a", tmp_path / "b"], capture_output=True)
    assert done.returncode == 0, done.stdout
    assert not engine.names


def test_without_an_engine_there_is_a_context_and_a_note(made, monkeypatch, tmp_path):
    def none(builder):
        raise EngineMissingError("no Docker engine answers: Connection refused", "start Docker")

    monkeypatch.setattr("pipcook_deploy.images.stage.connect", none)
    found = package(made, tmp_path / "p")
    assert found.image is None
    assert found.notes == ("no image: no Docker engine answers: Connection refused",)
    assert found.command[:3] == ("docker", "build", "--tag")
    assert (tmp_path / "p" / "Dockerfile").exists()
    for options in ({"build": True}, {"push": True}, {"builder": "docker"}):
        with pytest.raises(EngineMissingError, match="Connection refused"):
            package(made, tmp_path / "q", **options)
        assert not (tmp_path / "q").exists()


# ---- pushing


def test_every_name_is_pushed_and_its_digest_recorded(made, engine, quick, tmp_path):
    found = package(made, tmp_path / "p", push=True, tag="localhost:5000/shop/scale:7")
    names = [push.reference for push in found.image.pushes]
    assert names == engine.pushed == list(found.image.tags)
    assert names[0] == "localhost:5000/shop/scale:7"
    assert {push.digest for push in found.image.pushes} == {"sha256:" + "3" * 64}
    assert ImageRecord.load(tmp_path / "p" / "image.json") == found.image


def test_what_was_booted_earlier_is_pushed_without_a_build(made, engine, quick, tmp_path):
    package(made, tmp_path / "p")
    engine.started.clear()
    found = package(made, tmp_path / "p", push=True, build=False)
    assert engine.pushed == list(found.image.tags) and not engine.started


def test_what_was_not_booted_is_not_pushed(made, engine, tmp_path):
    package(made, tmp_path / "p", boot=False)
    with pytest.raises(ImageError, match="was not booted, and so is not pushed"):
        package(made, tmp_path / "p", push=True, build=False)
    with pytest.raises(ImageError, match="no image that was built and booted"):
        package(made, tmp_path / "q", push=True, build=False)
    with pytest.raises(UsageError, match="an image that was not booted is not pushed"):
        package(made, tmp_path / "p", push=True, boot=False)
    assert not engine.pushed


def test_another_image_under_the_name_is_not_pushed(made, engine, quick, tmp_path):
    package(made, tmp_path / "p")
    engine.names[NAME] = Image("sha256:" + "9" * 64, (), {})
    with pytest.raises(ImageError, match=r"is another image .* than the one that was booted"):
        package(made, tmp_path / "p", push=True, build=False)
    del engine.names[NAME]
    with pytest.raises(ImageError, match="has no such image any more"):
        package(made, tmp_path / "p", push=True, build=False)
    assert not engine.pushed


def test_a_changed_bundle_is_not_pushed_as_what_was_booted(made, engine, quick, tmp_path):
    package(made, tmp_path / "p")
    other = scale_bundles.write(tmp_path / "other", 4)
    with pytest.raises(ImageError, match="was built of another bundle, or with other options"):
        package(other, tmp_path / "p", push=True, build=False)
    assert not engine.pushed
    # The older package is as it was, and can still be pushed.
    package(made, tmp_path / "p", push=True, build=False)
    assert engine.pushed


def test_a_record_that_was_edited_is_refused(made, engine, quick, tmp_path):
    package(made, tmp_path / "p", boot=False)
    path = tmp_path / "p" / "image.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"boot": {"engine": "trust me"}}))
    with pytest.raises(ImageError, match="cannot be read"):
        package(made, tmp_path / "p", push=True, build=False)


# ---- what is refused


def test_a_changed_byte_is_found_before_anything_is_written(engine, tmp_path):
    bundle = scale_bundles.write(tmp_path / "b", 3)
    model = next((bundle / "artifacts" / "onnx").iterdir())
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="was changed"):
        package(bundle, tmp_path / "p")
    assert not engine.names and not (tmp_path / "p").exists()


def test_a_strangers_folder_is_left_alone_before_anything_is_built(made, engine, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis").write_text("years of work")
    with pytest.raises(OutputError, match="is there already and is left alone"):
        package(made, tmp_path / "p")
    assert not engine.names
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_a_format_that_the_engine_needs(engine, tmp_path):
    bundle = write_small_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="has no tflite artifact"):
        package(bundle.path, tmp_path / "p", engine="litert")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"engnie": "openvino"}, "has no option 'engnie'.*did you mean 'engine'"),
        ({"engine": "tensorflow"}, "docker.engine"),
        ({"port": 0}, "docker.port"),
        ({"tag": "Shop/Shoes"}, "is no name of an image"),
        ({"variant": "gpu", "engine": "openvino"}, "the variant gpu runs onnxruntime"),
        ({"variant": "gpu", "build": True}, "is written, not built"),
        ({"grpc": True, "port": 8001}, "port 8001 is that of gRPC"),
    ],
)
def test_options_that_make_no_sense(made, engine, tmp_path, options, reason):
    with pytest.raises(UsageError, match=reason):
        package(made, tmp_path / "p", **options)
    assert not (tmp_path / "p").exists() and not engine.names


def test_the_command_line_says_it_all(made, engine, quick, tmp_path, capsys):
    arguments = ["package", str(made), "--target", "docker", "--out", str(tmp_path / "p")]
    assert main([*arguments, "--tag", "shop/scale", "--push", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["packages"]
    assert found["image"]["tags"][0] == "shop/scale:1"
    assert found["image"]["boot"]["drain"]["lost"] == 0
    assert main([*arguments, "--engine", "litert"]) == BundleError.exit_code
    assert main([*arguments, "--builder", "docker", "--no-build", "--variant", "lambda"]) == 0
    engine.serves = scale_bundles.write(tmp_path / "other", 4)
    assert main(arguments) == 11
    said = capsys.readouterr().err
    assert "other answers than the bundle recorded" in said and "Traceback" not in said


def test_the_table_has_every_layer_and_contract(made, engine, quick, tmp_path, capsys):
    assert main(["package", str(made), "--target", "docker", "--out", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out
    for words in (
        "interpreter and libraries",
        "model",
        "together",
        "TF Serving :predict",
        "0 lost",
    ):
        assert words in said


def test_a_target_without_images_has_no_such_options(made, tmp_path, capsys):
    arguments = ["package", str(made), "--target", "local", "--out", str(tmp_path / "p")]
    assert main([*arguments, "--push"]) == 2
    assert "the target local has no option 'push'" in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed(made, engine, tmp_path):
    left = tmp_path / f".p.staging-{2**22 + 1}"  # no process has such a number
    left.mkdir()
    (left / "Dockerfile").write_text("FROM scratch\n")
    package(made, tmp_path / "p", build=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p"]


# ---- what is the user's


def test_a_folder_with_a_dockerfile_and_a_bundle_is_not_ours_for_that(made, engine, tmp_path):
    mine = tmp_path / "mine"
    (mine / "bundle").mkdir(parents=True)
    (mine / "Dockerfile").write_text("FROM scratch\n")
    (mine / "thesis").write_text("years of work")
    with pytest.raises(OutputError, match="is there already and is left alone"):
        package(made, mine, build=False)
    assert (mine / "thesis").exists()


def test_a_link_is_left_alone_and_a_dot_is_a_folder(made, engine, tmp_path, monkeypatch):
    package(made, tmp_path / "p", build=False)
    (tmp_path / "link").symlink_to("p")
    with pytest.raises(OutputError, match="is left alone"):
        package(made, tmp_path / "link", build=False)
    monkeypatch.chdir(tmp_path / "p")
    package(made, Path(), build=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "p"]


@pytest.mark.parametrize("change", [{"tag": "shop/new:2"}, {"memory": 64}, {"port": 8081}])
def test_other_options_are_not_what_was_booted(made, engine, quick, tmp_path, change):
    package(made, tmp_path / "p")
    with pytest.raises(ImageError, match="or with other options, than are given now"):
        package(made, tmp_path / "p", push=True, build=False, **change)
    assert not engine.pushed
    package(made, tmp_path / "p", build=False, **change)
    assert not (tmp_path / "p" / "image.json").exists()


# ---- what happens between a boot test and its names


def test_no_name_is_given_if_the_record_cannot_be_kept(made, engine, quick, tmp_path, monkeypatch):
    def full(path, text):
        raise OutputError(f"{path}: cannot be written: No space left on device")

    before = engine.names[NAME] = Image("sha256:" + "9" * 64, (), {})
    monkeypatch.setattr("pipcook_deploy.images.stage.write_atomically", full)
    with pytest.raises(OutputError):
        package(made, tmp_path / "p")
    assert engine.names == {NAME: before} and not (tmp_path / "p").exists()


def test_all_names_or_none(made, engine, quick, tmp_path, monkeypatch):
    before = engine.names[NAME] = Image("sha256:" + "9" * 64, (), {})
    tag = ProcessEngine.tag

    def second_fails(self, image, reference):
        if reference != NAME:
            raise ImageError("the engine is gone")
        tag(self, image, reference)

    monkeypatch.setattr(ProcessEngine, "tag", second_fails)
    with pytest.raises(ImageError, match="the engine is gone"):
        package(made, tmp_path / "p")
    assert engine.names == {NAME: before}


def test_what_was_pushed_before_a_push_failed_is_recorded(
    made, engine, quick, tmp_path, monkeypatch
):
    push = ProcessEngine.push

    def second_fails(self, reference, progress):
        if self.pushed:
            raise ImageError("the registry is gone")
        return push(self, reference, progress)

    monkeypatch.setattr(ProcessEngine, "push", second_fails)
    with pytest.raises(ImageError, match="the registry is gone"):
        package(made, tmp_path / "p", push=True)
    record = ImageRecord.load(tmp_path / "p" / "image.json")
    assert [entry.reference for entry in record.pushes] == [NAME]
    monkeypatch.setattr(ProcessEngine, "push", push)
    found = package(made, tmp_path / "p", push=True, build=False)
    assert {entry.reference for entry in found.image.pushes} == set(found.image.tags)


def test_a_signed_record_is_not_pushed_unsigned(made, engine, quick, tmp_path):
    package(made, tmp_path / "p")
    (tmp_path / "p" / "image.json.sig").write_text("a signature")
    with pytest.raises(ImageError, match="is signed") as raised:
        package(made, tmp_path / "p", push=True, build=False)
    assert "--sign-key" in raised.value.hint and not engine.pushed


# ---- scanning

REPORT = {
    "SchemaVersion": 2,
    "Results": [
        {"Vulnerabilities": [{"VulnerabilityID": "CVE-1", "Severity": "HIGH", "PkgName": "x"}]}
    ],
}


@pytest.fixture
def trivy(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "trivy"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntest -s \"$6\" && cat <<'END'\n{json.dumps(REPORT)}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_findings_are_counted(made, engine, quick, trivy, tmp_path):
    found = package(made, tmp_path / "p", scan=True)
    assert found.image.scan.findings == {"high": 1} and found.image.scan.scanner == "trivy"
    package(made, tmp_path / "p", scan=True, fail_on="critical")


def test_an_image_with_findings_gets_no_name(made, engine, quick, trivy, tmp_path):
    with pytest.raises(ImageError, match=r"CVE-1 \(high, x\)"):
        package(made, tmp_path / "p", scan=True, fail_on="high")
    assert not engine.names and not (tmp_path / "p").exists()


def test_a_scan_that_cannot_be_is_said(made, engine, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingDependencyError, match="no scanner is installed"):
        package(made, tmp_path / "p", scan=True)
    assert not engine.names
    for options in (
        {"fail_on": "low"},
        {"scan": True, "build": False},
        {"sign_key": "k", "build": False},
    ):
        with pytest.raises(UsageError):
            package(made, tmp_path / "p", **options)
