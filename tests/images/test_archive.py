"""Archives of images, made here by hand: the same image whenever it was built, sizes as they are, damage refused."""

import gzip
import hashlib
import io
import json
import os
import tarfile

import pytest

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.archive import settle
from pipcook_deploy.images.engine import Layer

EPOCH = 315_532_800
TAG = "shoes:1"


def tar_of(members):
    """An archive; a text that begins with "->" is a link."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data.removeprefix("->")
                data = b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


SYSTEM = tar_of({"usr/bin/python3": os.urandom(3000)})
MODEL = tar_of({"model/model.onnx": b"weights" * 5000})


def config(layers, created="2026-05-01T12:00:00.123456789Z", **more):
    history = [
        {"created": created, "created_by": "COPY /image/system/ /"},
        {"created": created, "created_by": "LABEL x=y", "empty_layer": True},
        {"created": created, "created_by": "COPY /image/model/ /"},
    ]
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {"User": "10001:10001", "Env": ["PORT=8080"]},
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
    } | more


def image(layers=(SYSTEM, MODEL), stored=bytes, described=None):
    """What `docker save` writes; `stored` is how the store keeps a layer."""
    text = json.dumps(config(layers) if described is None else described).encode()
    name = f"{digest(text)}.json"
    places = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": name, "RepoTags": ["tmp:1"], "Layers": places}]
    files = dict(zip(places, map(stored, layers), strict=True))
    return files | {name: text, "manifest.json": json.dumps(manifest).encode()}


def settled(folder, members, epoch=EPOCH):
    source, target = folder / "source.tar", folder / "target.tar"
    source.write_bytes(members if isinstance(members, bytes) else tar_of(members))
    layers = settle(source, target, epoch, TAG)
    with tarfile.open(target) as archive:
        return layers, {m.name: archive.extractfile(m).read() for m in archive}, target.read_bytes()


def image_id(files):
    """By which engines know an image: the digest of its configuration."""
    (row,) = json.loads(files["manifest.json"])
    assert row["Config"] == f"{digest(files[row['Config']])}.json"
    return row["Config"].removesuffix(".json")


def test_the_same_layers_are_the_same_image_whenever_they_were_made(tmp_path):
    _, files, whole = settled(tmp_path, image())
    later = config((SYSTEM, MODEL), "2027-01-01T00:00:00Z", container="abc", docker_version="20.10")
    later["container_config"] = {"Hostname": "abc"}
    later["config"]["Image"] = "sha256:of-the-step-before"
    _, other, again = settled(tmp_path, image(described=later))
    assert image_id(files) == image_id(other)
    assert whole == again
    _, dated, _ = settled(tmp_path, image(), EPOCH + 1)
    assert image_id(dated) != image_id(files)


def test_the_time_is_the_one_that_was_asked_for(tmp_path):
    _, files, _ = settled(tmp_path, image(), 1_234_567_890)
    found = json.loads(files[f"{image_id(files)}.json"])
    moments = {found["created"], *(row["created"] for row in found["history"])}
    assert moments == {"2009-02-13T23:31:30Z"}
    expected = config((SYSTEM, MODEL), "2009-02-13T23:31:30Z")
    assert found == expected


@pytest.mark.parametrize("stored", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_layers_are_kept_byte_for_byte_with_their_sizes(tmp_path, stored):
    layers, files, _ = settled(tmp_path, image(stored=stored))
    assert [layer.size for layer in layers] == [len(SYSTEM), len(MODEL)]
    for layer, data in zip(layers, (SYSTEM, MODEL), strict=True):
        assert layer.diff_id == f"sha256:{digest(data)}"
    made_by = [layer.made_by for layer in layers]
    assert made_by == ["COPY /image/system/ /", "COPY /image/model/ /"]
    (row,) = json.loads(files["manifest.json"])
    assert row["RepoTags"] == [TAG]
    kept = [files[place] for place in row["Layers"]]
    if stored is bytes:
        assert [layer.compressed for layer in layers] == [None, None]
        assert kept == [SYSTEM, MODEL]
    else:
        assert [layer.compressed for layer in layers] == [len(data) for data in kept]
        assert [gzip.decompress(data) for data in kept] == [SYSTEM, MODEL]


def test_compression_does_not_change_the_image(tmp_path):
    _, plain, _ = settled(tmp_path, image())
    _, gzipped, _ = settled(tmp_path, image(stored=gzip.compress))
    assert image_id(plain) == image_id(gzipped)


def test_a_layer_that_is_there_twice_is_one_file_and_counted_twice(tmp_path):
    members = image((MODEL, MODEL))
    members["1/layer.tar"] = "->../0/layer.tar"  # as engines write it
    layers, files, whole = settled(tmp_path, members)
    assert [layer.size for layer in layers] == [len(MODEL), len(MODEL)]
    (row,) = json.loads(files["manifest.json"])
    assert row["Layers"] == [f"{digest(MODEL)}/layer.tar"] * 2
    assert files[row["Layers"][0]] == MODEL
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))


def test_layers_without_history_are_of_unknown_making(tmp_path):
    bare = config((SYSTEM, MODEL))
    del bare["history"]
    layers, _, _ = settled(tmp_path, image(described=bare))
    assert layers[0] == Layer(f"sha256:{digest(SYSTEM)}", "", len(SYSTEM))


def without(name):
    members = image()
    del members[name]
    return members


def manifest_of(rows):
    return image() | {"manifest.json": json.dumps(rows).encode()}


def described_as(described):
    return image(described=described)


GZIPPED = gzip.compress(MODEL)
DAMAGED = {
    "empty": b"",
    "no archive": b"hello " * 1000,
    "no manifest": without("manifest.json"),
    "a manifest that is no JSON": image() | {"manifest.json": b"{"},
    "a manifest that is a link to nothing": image() | {"manifest.json": "->nowhere"},
    "no image": manifest_of([]),
    "two images": manifest_of(json.loads(image()["manifest.json"]) * 2),
    "images as a number": manifest_of(1),
    "an image as a text": manifest_of(["x"]),
    "an image without anything": manifest_of([{}]),
    "a configuration that is not there": manifest_of([{"Config": "x", "Layers": []}]),
    "no name of a configuration": manifest_of([{"Config": None, "Layers": []}]),
    "no layer": without("1/layer.tar"),
    "a configuration that is a list": described_as([]),
    "no layers in it": described_as({"config": {}}),
    "more layers in it": described_as(config((SYSTEM, MODEL, MODEL))),
    "layers that are numbers": described_as(
        config(()) | {"rootfs": {"type": "layers", "diff_ids": [1, 2]}}
    ),
    "history that is a text": described_as(config((SYSTEM, MODEL), history=["x"])),
    "deep": image() | {"manifest.json": b"[" * 100_000},
    "cut gzip": image() | {"1/layer.tar": GZIPPED[: len(GZIPPED) // 2]},
    "no gzip but for its mark": image() | {"1/layer.tar": b"\x1f\x8bnot really"},
    "broken gzip": image() | {"1/layer.tar": GZIPPED[:30] + b"\xff" * 40 + GZIPPED[70:]},
    "cut in a layer": tar_of(dict(sorted(image().items(), reverse=True)))[:-15_000],
}


@pytest.mark.parametrize("members", DAMAGED.values(), ids=DAMAGED)
def test_what_is_not_one_whole_image_is_refused(tmp_path, members):
    with pytest.raises(ImageError, match=r"source\.tar"):
        settled(tmp_path, members)


def test_an_error_of_the_disk_is_not_the_archives(tmp_path):
    (tmp_path / "source.tar").write_bytes(tar_of(image()))
    with pytest.raises(IsADirectoryError):
        settle(tmp_path / "source.tar", tmp_path, EPOCH, TAG)
    with pytest.raises(FileNotFoundError):
        settle(tmp_path / "none.tar", tmp_path / "target.tar", EPOCH, TAG)
