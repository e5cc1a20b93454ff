"""An image as a file (`docker save`): how large its layers are, and the same image without the time it was made at.

A classic builder writes the clock into an image's configuration, so that the same layers get another id each time.
Format: Docker's image specification 1.2; an archive of a containerd store holds the same manifest.json.
"""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.engine import Layer

GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
# How reading what is no image fails, beside errors of `OSError` without a number.
DAMAGE = (
    tarfile.TarError, LookupError, ValueError, TypeError, AttributeError, EOFError, zlib.error, RecursionError,
)  # fmt: skip
# What the classic builder notes of the machine it ran on.
TRACES = ("container", "container_config", "docker_version")


def settle(source: Path, target: Path, epoch: int, tag: str) -> tuple[Layer, ...]:
    """Write the image again, as if made at `epoch`; its layers.

    Raises `ImageError` if the archive is not one image, `OSError`.
    """
    try:
        with tarfile.open(source) as archive, tarfile.open(target, "w") as copy:
            manifest = _only_manifest(archive)
            config = json.loads(_read(archive, manifest["Config"]))
            _settle_config(config, epoch)
            text = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
            name = f"{hashlib.sha256(text).hexdigest()}.json"
            layers, places = [], []
            diff_ids = config["rootfs"]["diff_ids"]
            made_by = _made_by(config)
            rows = zip(manifest["Layers"], diff_ids, strict=True)
            for number, (place, diff_id) in enumerate(rows):
                stream = archive.extractfile(place)
                if stream is None:
                    raise ImageError(f"{source}: the layer {place} is not a file")
                # Of what a link leads to: an engine writes the same layer once, and links to it.
                stored = stream.seek(0, io.SEEK_END)
                stream.seek(0)
                layers.append(_layer(stream, diff_id, made_by[number], stored))
                stream.seek(0)
                inside = f"{diff_id.removeprefix('sha256:')}/layer.tar"
                if inside not in places:
                    _add(copy, inside, stream, stored)
                places.append(inside)
            _add(copy, name, io.BytesIO(text), len(text))
            listed = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": places}])
            _add(copy, "manifest.json", io.BytesIO(listed.encode()), len(listed.encode()))
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the archive's
            raise
        raise ImageError(
            f"{source}: the engine's archive of the image cannot be read: {error}"
        ) from error
    return tuple(layers)


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
    for name in TRACES:
        config.pop(name, None)
    # The classic builder keeps the id of the image before the last step.
    config.get("config", {}).pop("Image", None)


def _made_by(config: dict[str, Any]) -> list[str]:
    """What made each layer that is not empty."""
    rows = [row for row in config.get("history", []) if not row.get("empty_layer")]
    found = [str(row.get("created_by", "")) for row in rows]
    return found + [""] * (len(config["rootfs"]["diff_ids"]) - len(found))


def _layer(stream: Any, diff_id: str, made_by: str, stored: int) -> Layer:
    """A layer as a containerd store has it is compressed already."""
    if stream.read(len(GZIP)) != GZIP:
        return Layer(diff_id, made_by, stored)
    stream.seek(0)
    size = 0
    with gzip.open(stream) as plain:
        while block := plain.read(BLOCK):
            size += len(block)
    return Layer(diff_id, made_by, size, stored)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file")
    return stream.read()


def _add(archive: tarfile.TarFile, name: str, stream: "BinaryIO | Any", size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, stream)
