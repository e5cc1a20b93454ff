"""Bundles from strangers: manifest and sums fit the files, and only their meaning is wrong."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from pipcook_deploy.bundle import SUMS, Bundle, sums
from pipcook_deploy.bundle_safety import check_models
from pipcook_deploy.check_bundle import verify_bundle
from pipcook_deploy.cli import main
from pipcook_deploy.errors import BundleError
from pipcook_deploy.files import files_below, sha256
from pipcook_deploy.tensors import load_tensors, save_tensors
from tests.bundles import write_small_bundle
from tests.server import scale_bundles

DEEP = 100_000


@pytest.fixture
def bundle(tmp_path):
    return write_small_bundle(tmp_path / "bundle").path


def edit(bundle, change):
    """Change the manifest, with the hashes of the samples as they are now, and sign it anew."""
    data = json.loads((bundle / "manifest.json").read_text())
    change(data)
    samples = bundle / "samples"
    present = {path.relative_to(samples).as_posix(): path for path in files_below(samples)}
    for row in data["samples"]["files"]:
        if row["path"] in present:
            row["sha256"] = sha256(present[row["path"]])
    write(bundle, json.dumps(data))


def write(bundle, text):
    (bundle / "manifest.json").write_text(text)
    (bundle / SUMS).write_bytes(sums(bundle))


def put(*place):
    *path, value = place

    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


PATHS = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "",
    "a\0b",
    "c:\\x",
    "a\nb",
    "x" * 5000,
]
ARTIFACT = ("artifacts", 0)


@pytest.mark.parametrize("path", [*PATHS, ".", "other.bin", "\ud800"])
def test_an_entry_is_a_file_of_the_artifact(bundle, path):
    if path == ".":
        edit(bundle, put(*ARTIFACT, "files", []))
    edit(bundle, put(*ARTIFACT, "entry", path))
    with pytest.raises(BundleError, match="entry"):
        Bundle.open(bundle)


@pytest.mark.parametrize("path", PATHS)
def test_files_lie_inside_the_bundle(bundle, path):
    for place in ((*ARTIFACT, "files", 0, "path"), ("samples", "files", 0, "path")):
        edit(bundle, put(*place, path))
        with pytest.raises(BundleError, match=r"inside the bundle|not among its files"):
            Bundle.open(bundle)
        edit(bundle, put(*place, "model.bin"))


@pytest.mark.parametrize("name", ["../x", "/etc", "", ".", "..", "a/b", "a\0", "x" * 100])
def test_a_format_is_one_folder(bundle, name):
    edit(bundle, put(*ARTIFACT, "format", name))
    with pytest.raises(BundleError, match="format"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "change",
    [
        put(*ARTIFACT, "verification", []),
        put(*ARTIFACT, "inputs", []),
        put(*ARTIFACT, "outputs", 0, "name", "other"),
        put(*ARTIFACT, "inputs", 0, "dtype", "object"),
        put("spec", "inputs", []),
        lambda data: data["artifacts"].append(data["artifacts"][0]),
    ],
)
def test_the_parts_of_a_manifest_fit_together(bundle, change):
    edit(bundle, change)
    with pytest.raises(BundleError):
        Bundle.open(bundle)


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "9" * 5000, "", "null", '"\ud800"'])
def test_a_manifest_that_is_no_manifest(bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "/etc", "..", ".", "nowhere", "../../manifest.json"]
)
@pytest.mark.parametrize(
    "name", ["artifacts/onnx/model.bin", "artifacts/onnx/more", "samples", SUMS]
)
def test_links_are_refused_unread(bundle, name, target):
    place = bundle / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    with pytest.raises(BundleError, match="is a link") as caught:
        Bundle.open(bundle).check_files()
    assert "changed" not in caught.value.message  # nothing was read


@pytest.mark.parametrize("name", ["artifacts/onnx/pipe", "manifest.json", SUMS])
def test_a_pipe_does_not_block(bundle, name):
    (bundle / name).unlink(missing_ok=True)
    os.mkfifo(bundle / name)
    with pytest.raises(BundleError, match="not a file"):
        Bundle.open(bundle).check_files()


@pytest.mark.parametrize(
    "row",
    [
        {"file": ".."},
        {"file": "../../manifest.json"},
        {"file": "a\0"},
        {"file": 5},
        {"dtype": "string"},
        {"shape": [10**12]},
        {"name": {}},
    ],
)
def test_an_index_of_tensors_that_lies(bundle, row):
    index = bundle / "samples" / "inputs" / "tensors.json"
    rows = json.loads(index.read_text())
    index.write_text(json.dumps([rows[0] | row]))
    edit(bundle, lambda _: None)
    opened = Bundle.open(bundle)
    opened.check_files()
    with pytest.raises(BundleError):
        verify_bundle(bundle)


@pytest.mark.parametrize("text", ["[" * DEEP, "[[1]]", '{"a": {"b": 1}}', "null", "[]", '"abc"'])
def test_an_index_that_is_no_index(bundle, text):
    (bundle / "samples" / "inputs" / "tensors.json").write_text(text)
    edit(bundle, lambda _: None)
    with pytest.raises(BundleError):
        verify_bundle(bundle)


def test_a_huge_shape_takes_no_memory(tmp_path):
    save_tensors(tmp_path / "t", {"x": np.zeros((2, 2), np.float32)})
    file, index = tmp_path / "t" / "0.npy", tmp_path / "t" / "tensors.json"
    header = file.read_bytes().replace(b"(2, 2), }" + b" " * 16, b"(1000000, 1000000), }    ")
    file.write_bytes(header)
    rows = json.loads(index.read_text())
    index.write_text(json.dumps([rows[0] | {"shape": [10**6, 10**6]}]))
    with pytest.raises(BundleError):
        load_tensors(tmp_path / "t")


def test_empty_tensors_come_back(tmp_path):
    save_tensors(tmp_path / "t", {"x": np.zeros((2, 0), np.float32)})
    assert load_tensors(tmp_path / "t")["x"].shape == (2, 0)


@pytest.mark.parametrize("command", [["verify"], ["serve"], ["package", "--target", "local"]])
def test_every_command_ends_with_one_message(bundle, command, capfd):
    (bundle / "artifacts" / "onnx" / "more").symlink_to("/etc/passwd")
    assert main([*command[:1], str(bundle), *command[1:]]) == 7
    error = capfd.readouterr().err
    assert "artifacts/onnx/more: is a link" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["verify", "serve"])
def test_an_artifact_that_is_no_model_is_not_run(bundle, command, capfd):
    assert main([command, str(bundle)]) == 7
    error = capfd.readouterr().err
    assert "model.bin" in error
    assert "Traceback" not in error


def test_packaging_looks_at_every_byte(bundle, tmp_path, capfd):
    (bundle / "artifacts" / "onnx" / "model.bin").write_bytes(b"other")
    assert main(["package", str(bundle), "--target", "local", "--out", str(tmp_path / "p")]) == 7
    assert not (tmp_path / "p").exists()


def test_what_servers_run_is_checked_where_nothing_can_be_written(tmp_path, monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError("No usable temporary directory found")

    bundle = Bundle.open(scale_bundles.write(tmp_path / "b", 3))
    monkeypatch.setattr("tempfile.TemporaryDirectory", none)
    check_models(bundle, [bundle.entry("onnx")], trusted=False)
    file = bundle.artifact("onnx").file
    with zipfile.ZipFile(file, "w") as archive:  # what would have to be unpacked is no such file
        archive.writestr("model.json", "{}")
    with pytest.raises(BundleError):
        check_models(bundle, [bundle.entry("onnx")], trusted=False)
    assert not (bundle.path / "no-temporary-folder").exists()
