"""Hostile, damaged and foreign files are refused with a reason, and nothing is left behind."""

import base64
import io
import json
import marshal
import os
import pickle
import stat
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipcook_deploy.errors import SourceError, UntrustedSourceError
from pipcook_deploy.sources import archive, files, load
from tests.sources import builders as make


def refusal(path: Path, tmp_path: Path, **options) -> SourceError:
    """The error of loading `path`; whatever was unpacked is below the caller's own folder."""
    work = tmp_path / "the-work-folder"
    work.mkdir(exist_ok=True)
    before = {p for p in tmp_path.rglob("*") if work not in p.parents}
    with pytest.raises(SourceError) as caught:
        load(path, workdir=work, **options)
    assert {p for p in tmp_path.rglob("*") if work not in p.parents} == before
    assert str(caught.value)
    assert caught.value.hint, "an error says what to do now"
    return caught.value


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def code() -> str:
    return base64.b64encode(marshal.dumps((lambda x: x * 2).__code__)).decode()


LAMBDA_3 = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {
        "name": "evil",
        "function": {"class_name": "__lambda__", "config": {"code": code()}},
    },
}
LAMBDA_2 = {
    "class_name": "Lambda",
    "config": {"name": "evil", "function": [code(), None, None], "function_type": "lambda"},
}
ACTIVATION = {
    "class_name": "Activation",
    "config": {"name": "evil", "activation": {"class_name": "__lambda__", "config": {}}},
}
CUSTOM = {"class_name": "Pack>Mine", "config": {"name": "evil"}, "registered_name": "Pack>Mine"}
FOREIGN = {"module": "os", "class_name": "system", "config": {"name": "evil"}}
BUILTIN = {"module": "builtins", "class_name": "eval", "config": {"name": "evil"}}
TF_OP = {"class_name": "TFOpLambda", "config": {"name": "evil", "function": "io.write_file"}}
NESTED = make.sequential(make.input_layer([None, 4]), LAMBDA_3, name="inner")


@pytest.mark.parametrize(
    "layer", [LAMBDA_3, LAMBDA_2, ACTIVATION, CUSTOM, FOREIGN, BUILTIN, TF_OP, NESTED]
)
@pytest.mark.parametrize("kind", ["keras", "h5", "tfjs"])
def test_code_in_a_topology(tmp_path, layer, kind):
    topology = make.sequential(make.input_layer([None, 4]), layer)
    path = tmp_path / f"m.{kind}"
    maker = {"keras": make.keras_archive, "h5": make.keras_h5, "tfjs": make.tfjs_layers}[kind]
    error = refusal(maker(path, topology), tmp_path)
    assert isinstance(error, UntrustedSourceError)
    assert "--trust-source" in str(error)


@pytest.mark.parametrize("op", ["PyFunc", "EagerPyFunc", "WriteFile", "ReadFile"])
def test_operators_that_reach_out(tmp_path, op):
    error = refusal(make.saved_model(tmp_path / "sm", op), tmp_path)
    assert isinstance(error, UntrustedSourceError)
    assert op in error.message


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles(tmp_path, protocol):
    path = write(tmp_path / "model.pkl", pickle.dumps({"a": Evil()}, protocol))
    error = refusal(path, tmp_path)
    assert isinstance(error, UntrustedSourceError)
    assert "pickle" in error.message
    assert not Path("pwned").exists()


def test_pytorch(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as zipped:
        zipped.writestr("m/data.pkl", pickle.dumps(1))
        zipped.writestr("m/data/0", bytes(8))
    assert "PyTorch" in refusal(tmp_path / "m.pt", tmp_path).message


@pytest.mark.parametrize(
    ("shard", "word"),
    [
        ("../weights.bin", "leaves"),
        ("a/../../weights.bin", "leaves"),
        ("/etc/passwd", "leaves"),
        ("https://example.org/w.bin", "leaves"),
        ("//host/w.bin", "leaves"),
        ("..\\weights.bin", "leaves"),
        ("absent.bin", "missing"),
        ("link.bin", "link"),
    ],
)
def test_shards(tmp_path, shard, word):
    write(tmp_path / "weights.bin", bytes(60))
    folder = make.tfjs_layers(tmp_path / "m", paths=[shard])
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    assert word in refusal(folder, tmp_path).message


def test_truncated_shard(tmp_path):
    folder = make.tfjs_layers(tmp_path / "m")
    write(folder / "weights.bin", bytes(59))
    assert "truncated" in refusal(folder, tmp_path).message


def zip_with(path: Path, *entries: tuple[str, bytes], mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(info, data)
    return path


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil"])
def test_zip_slip(tmp_path, name):
    path = zip_with(tmp_path / "m.zip", ("model.json", b"{}"), (name, b"x"))
    assert "leaves" in refusal(path, tmp_path).message


def test_zip_slip_in_a_keras_archive(tmp_path):
    path = make.keras_archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("../../evil", b"x")
    assert "leaves" in refusal(path, tmp_path).message


def test_zip_with_a_link(tmp_path):
    path = zip_with(tmp_path / "m.zip", ("model", b"/etc"), mode=stat.S_IFLNK | 0o777)
    assert "link" in refusal(path, tmp_path).message


def test_zip_bomb_by_ratio(tmp_path):
    path = zip_with(tmp_path / "m.zip", ("model.json", bytes(64 * 1024 * 1024)))
    assert path.stat().st_size < 200_000
    assert "bomb" in refusal(path, tmp_path).message
    written = sum(p.stat().st_size for p in (tmp_path / "the-work-folder").rglob("model.json"))
    assert written <= archive.RATIO_FROM + (1 << 20)  # stopped while it unpacked


def test_zip_bomb_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_TOTAL", 1000)
    path = zip_with(tmp_path / "m.zip", ("a", bytes(600)), ("b", bytes(600)))
    assert "bomb" in refusal(path, tmp_path).message


def test_zip_bomb_whose_header_lies(tmp_path):
    path = zip_with(tmp_path / "m.zip", ("model.json", bytes(64 * 1024 * 1024)))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 10)  # claims to unpack to ten bytes
    write(path, bytes(data))
    refusal(path, tmp_path)
    written = sum(p.stat().st_size for p in (tmp_path / "the-work-folder").rglob("model.json"))
    assert written <= 10


def test_zip_with_too_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    path = zip_with(tmp_path / "m.zip", *((str(i), b"") for i in range(4)))
    assert "entries" in refusal(path, tmp_path).message


def test_zip_bomb_in_a_keras_archive(tmp_path):
    path = tmp_path / "m.keras"
    zip_with(
        path,
        ("config.json", b" " * (64 << 20)),
        ("model.weights.h5", b""),
        ("metadata.json", b"{}"),
    )
    assert "bomb" in refusal(path, tmp_path).message


def test_a_zip_in_a_zip(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as zipped:
        zipped.writestr("../evil", b"")
    path = zip_with(tmp_path / "m.zip", ("inner.zip", inner.getvalue()))
    refusal(path, tmp_path)


def test_hostile_shard_path_in_a_zip(tmp_path):
    folder = make.tfjs_layers(tmp_path / "m", paths=["../../secret"])
    path = zip_with(tmp_path / "m.zip", ("model.json", (folder / "model.json").read_bytes()))
    error = refusal(path, tmp_path)
    assert "leaves" in error.message
    assert "the-work-folder" not in error.message


def test_encrypted_zip(tmp_path):
    path = zip_with(tmp_path / "m.zip", ("model.json", b"{}"))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    assert "encrypted" in refusal(write(path, bytes(data)), tmp_path).message


def test_bayes(tmp_path):
    write(tmp_path / "model.json", '{"name": "MultinomialNB", "conditionProb": {}, "classes": []}')
    write(tmp_path / "vectorizer.json", '{"name": "CountVecorizer"}')
    for path in (tmp_path, tmp_path / "model.json"):
        error = refusal(path, tmp_path)
        assert "Bayes" in error.message
        assert "not supported yet" in error.message


def weights_h5(path: Path) -> Path:
    with h5py.File(path, "w") as h5:
        h5["layers/dense/vars/0"] = np.zeros(3)
    return path


def numpy_file(path: Path) -> Path:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    return path


def numpy_archive(path: Path) -> Path:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(3))
    return path


@pytest.mark.parametrize(
    "maker",
    [
        weights_h5,
        numpy_file,
        numpy_archive,
        lambda path: write(path, '[{"paths": [], "weights": []}]'),
        lambda path: write(path, '{"weightsManifest": []}'),
        lambda path: write(path, struct.pack("<Q", 20) + b'{"w":{"dtype":"F32"}}'),
    ],
)
def test_weights_without_a_topology(tmp_path, maker):
    error = refusal(maker(tmp_path / "weights"), tmp_path)
    assert "weights without" in error.message


def test_a_topology_without_weights(tmp_path):
    assert (
        "without weights"
        in refusal(write(tmp_path / "config.json", json.dumps(make.NET)), tmp_path).message
    )


def whole_models(folder: Path) -> list[Path]:
    folder.mkdir()
    return [
        make.keras_archive(folder / "m.keras"),
        make.keras_h5(folder / "m.h5"),
        write(folder / "m.onnx", make.onnx_bytes()),
        write(folder / "m.tflite", (make.DATA / "small.tflite").read_bytes()),
        make.saved_model(folder / "sm") / "saved_model.pb",
        make.tfjs_layers(folder / "tfjs") / "model.json",
    ]


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.97])
def test_truncated_files(tmp_path, index, part):
    path = whole_models(tmp_path / "whole")[index]
    data = path.read_bytes()
    write(path, data[: int(len(data) * part)])
    refusal(path, tmp_path)


def test_flipped_bit_in_a_keras_archive(tmp_path):
    path = make.keras_archive(tmp_path / "m.keras")
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89HDF") + 600] ^= 1
    assert "damaged" in refusal(write(path, bytes(data)), tmp_path).message


def test_h5_that_reaches_into_another_file(tmp_path):
    path = make.keras_h5(tmp_path / "m.h5")
    with h5py.File(path, "a") as h5:
        h5["model_weights/link"] = h5py.ExternalLink("/etc/passwd", "/")
    assert "another file" in refusal(path, tmp_path).message


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("../w.data", "leaves"),
        ("/etc/passwd", "leaves"),
        ("", "leaves"),
        ("absent", "missing"),
        ("short", "truncated"),
        ("link", "link"),
    ],
)
def test_external_data_of_onnx(tmp_path, location, word):
    folder = tmp_path / "m"
    folder.mkdir()
    write(tmp_path / "w.data", bytes(48))
    write(folder / "short", bytes(47))
    (folder / "link").symlink_to(tmp_path / "w.data")
    path = write(folder / "m.onnx", make.onnx_bytes(external={"location": location}))
    assert word in refusal(path, tmp_path).message


def test_onnx_of_another_age_or_with_short_weights(tmp_path):
    assert "opset 7" in refusal(write(tmp_path / "a", make.onnx_bytes(opset=7)), tmp_path).message
    assert "47 bytes" in refusal(write(tmp_path / "b", make.onnx_bytes(raw=47)), tmp_path).message


@pytest.mark.parametrize("victim", ["variables.index", "variables.data-00000-of-00001"])
@pytest.mark.parametrize("keep", [None, 0, 10])
def test_variables_of_a_saved_model(tmp_path, victim, keep):
    source = make.DATA / "two_signatures"
    folder = tmp_path / "sm"
    (folder / "variables").mkdir(parents=True)
    for path in (p for p in source.rglob("*") if p.is_file()):
        write(folder / path.relative_to(source), path.read_bytes())
    target = folder / "variables" / victim
    if keep is None:
        target.unlink()
    else:
        write(target, target.read_bytes()[:keep])
    assert victim in refusal(folder, tmp_path).message


def test_saved_model_without_variables_or_signatures(tmp_path):
    assert (
        "variables/" in refusal(make.saved_model(tmp_path / "a", "VarHandleOp"), tmp_path).message
    )
    folder = make.saved_model(tmp_path / "b", signatures=False)
    assert "signature" in refusal(folder, tmp_path).message


def test_signatures_that_do_not_exist(tmp_path):
    error = refusal(make.DATA / "two_signatures", tmp_path, signature="serving_defualt")
    assert "did you mean 'serving_default'" in error.message
    refusal(make.keras_archive(tmp_path / "m.keras"), tmp_path, signature="x")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"hello, world", "not a model"),
        (bytes(range(256)) * 9, "not a model"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\x1f\x8b" + bytes(20), "compressed"),
        (b'{"a": ', "JSON"),
        (b'{"a": 1}', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"specVersion": "2.0", "dataflow": []}', "pipeline"),
    ],
)
def test_files_that_are_no_model(tmp_path, content, word):
    assert word in refusal(write(tmp_path / "model.h5", content), tmp_path).message


def test_too_large_json(tmp_path, monkeypatch):
    folder = make.tfjs_layers(tmp_path / "m")
    monkeypatch.setattr(files, "MAX_JSON", 100)
    assert "larger" in refusal(folder, tmp_path).message


def test_folders_without_and_with_too_many_models(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no model" in refusal(empty, tmp_path).message
    several = tmp_path / "several"
    several.mkdir()
    make.keras_archive(several / "a.keras")
    make.keras_h5(several / "b.h5")
    assert "a.keras, b.h5" in refusal(several, tmp_path).message
    versions = tmp_path / "versions"
    make.saved_model(versions / "1")
    make.saved_model(versions / "2")
    assert "1, 2" in refusal(versions, tmp_path).message


def test_places_that_cannot_be_read(tmp_path):
    assert "no such" in refusal(tmp_path / "absent", tmp_path).message
    os.mkfifo(tmp_path / "pipe")
    assert "neither" in refusal(tmp_path / "pipe", tmp_path).message  # and does not wait for ever
    assert "neither" in refusal(Path("/dev/zero"), tmp_path).message
    folder = tmp_path / "with-pipe"
    folder.mkdir()
    os.mkfifo(folder / "model.json")
    assert "no model" in refusal(folder, tmp_path).message
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in refusal(tmp_path / "loop", tmp_path).message


def test_no_permission(tmp_path):
    path = make.keras_archive(tmp_path / "m.keras")
    path.chmod(0)
    work = tmp_path / "work"
    work.mkdir()
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65534)  # root reads everything
    try:
        with pytest.raises(SourceError, match=r"[Pp]ermission"):
            load(path, workdir=work)
    finally:
        os.seteuid(uid)


@pytest.mark.parametrize(
    "topology",
    [
        {"class_name": "MyOwnModel", "config": {}},
        {"class_name": "Sequential", "config": {"layers": []}},
        {"class_name": "Sequential", "config": {"layers": [7]}},
        {"class_name": "Functional", "config": {"layers": []}},
        {"class_name": "Functional", "config": {}},
        {"class_name": "Functional"},
        [],
        "text",
    ],
)
def test_damaged_topologies(tmp_path, topology):
    refusal(make.keras_archive(tmp_path / "m.keras", topology), tmp_path)
    refusal(make.keras_h5(tmp_path / "m.h5", topology), tmp_path)


def test_a_zip_without_a_model_is_named_once(tmp_path):
    path = tmp_path / "notes.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("notes/a/b.txt", "no model")
    assert refusal(path, tmp_path).message == f"{path}: holds no model"


def test_a_bundle_is_no_source(tmp_path):
    bundle = tmp_path / "b"
    (bundle / "artifacts").mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    error = refusal(bundle, tmp_path)
    assert "is a bundle" in error.message
    assert "pipcook-deploy verify" in error.hint
