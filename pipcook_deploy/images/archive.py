"""An image as a file (`docker save`): how large its layers are, and the same image without the time it was made at.

A classic builder writes the clock into an image's configuration, so that the same layers get another id each time.
Format: Docker's image specification 1.2; an archive of a containerd store holds the same manifest.json.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.engine import Layer

GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
# How reading what is no image fails, beside errors of `OSError` without a number.
DAMAGE = (
    tarfile.TarError, LookupError, ValueError, TypeError, AttributeError, EOFError, zlib.error, RecursionError,
)  # fmt: skip
# What builders note of the machine they ran on, and buildah of each step: the id of the one before.
TRACES = ("container", "container_config", "docker_version", "parent")
STEP_BEFORE = re.compile("FROM [0-9a-f]{12}$")


def settle(source: Path, target: Path, epoch: int, tag: str) -> tuple[Layer, ...]:
    """Write the image again, as if made at `epoch`; its layers.

    Raises `ImageError` if the archive is not one image, `OSError`.
    """
    layers, places = [], []
    with _image_in(source) as (archive, manifest, config), tarfile.open(target, "w") as copy:
        _settle_config(config, epoch)
        text = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
        name = f"{hashlib.sha256(text).hexdigest()}.json"
        for layer, stream in _each_layer(archive, manifest, config):
            layers.append(layer)
            inside = f"{layer.diff_id.removeprefix('sha256:')}/layer.tar"
            if inside not in places:
                stream.seek(0)
                _add(copy, inside, stream, layer.compressed or layer.size)
            places.append(inside)
        _add(copy, name, io.BytesIO(text), len(text))
        listed = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": places}])
        _add(copy, "manifest.json", io.BytesIO(listed.encode()), len(listed.encode()))
    return tuple(layers)


def layers_in(source: Path) -> tuple[Layer, ...]:
    """The layers of the image. Raises as `settle`."""
    with _image_in(source) as (archive, manifest, config):
        return tuple(layer for layer, _ in _each_layer(archive, manifest, config))


def file_in(source: Path, path: str) -> bytes | None:
    """A file of the image as its uppermost layer has it; None if there is none. Raises as `settle`."""
    name = path.strip("/")
    folder, _, last = name.rpartition("/")
    removed = f"{folder}/.wh.{last}".strip("/")
    with _image_in(source) as (archive, manifest, _):
        for place in reversed(manifest["Layers"]):
            with tarfile.open(fileobj=_stream(archive, place)) as layer:
                for member in layer:
                    found = member.name.removeprefix("./").strip("/")
                    if found == removed:
                        return None
                    if found == name:
                        return _read(layer, member) if member.isfile() else None
    return None


@contextmanager
def _image_in(
    source: Path,
) -> Iterator[tuple[tarfile.TarFile, dict[str, Any], dict[str, Any]]]:
    """The archive, its manifest and the image's configuration; what is wrong with them is an `ImageError`."""
    try:
        with tarfile.open(source) as archive:
            manifest = _only_manifest(archive)
            yield archive, manifest, json.loads(_read(archive, manifest["Config"]))
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the archive's
            raise
        raise ImageError(
            f"{source}: the engine's archive of the image cannot be read: {error}"
        ) from error


def _each_layer(
    archive: tarfile.TarFile, manifest: dict[str, Any], config: dict[str, Any]
) -> Iterator[tuple[Layer, IO[bytes]]]:
    rows = zip(manifest["Layers"], config["rootfs"]["diff_ids"], _made_by(config), strict=True)
    for place, diff_id, made_by in rows:
        stream = _stream(archive, place)
        # Of what a link leads to: an engine writes the same layer once, and links to it.
        stored = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        yield _layer(stream, diff_id, made_by, stored), stream


def _only_manifest(archive: tarfile.TarFile) -> dict[str, Any]:
    rows = json.loads(_read(archive, "manifest.json"))
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} images instead of one")
    found: dict[str, Any] = rows[0]
    return found


def _settle_config(config: dict[str, Any], epoch: int) -> None:
    moment = datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
    config["created"] = moment
    for row in config.get("history", []):
        row["created"] = moment
        if STEP_BEFORE.match(row.get("comment", "")):
            del row["comment"]
    for name in TRACES:
        config.pop(name, None)
    # The classic builder keeps the id of the image before the last step, buildah the name of its working container.
    config.get("config", {}).pop("Image", None)
    config.get("config", {}).pop("Hostname", None)


def _made_by(config: dict[str, Any]) -> list[str]:
    """What made each layer that is not empty."""
    rows = [row for row in config.get("history", []) if not row.get("empty_layer")]
    found = [str(row.get("created_by", "")) for row in rows]
    count = len(config["rootfs"]["diff_ids"])
    return [*found, *[""] * count][:count]


def _layer(stream: IO[bytes], diff_id: str, made_by: str, stored: int) -> Layer:
    """A layer as a containerd store has it is compressed already."""
    if stream.read(len(GZIP)) != GZIP:
        return Layer(diff_id, made_by, stored)
    stream.seek(0)
    size = 0
    with gzip.open(stream) as plain:
        while block := plain.read(BLOCK):
            size += len(block)
    return Layer(diff_id, made_by, size, stored)


def _read(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> bytes:
    return _stream(archive, name).read()


def _stream(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file")
    return stream


def _add(archive: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, stream)
