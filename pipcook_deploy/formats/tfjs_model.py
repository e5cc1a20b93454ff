"""`model.json` of TF.js and its weight shards, read and written without TensorFlow.

Format: tfjs-core `io/types.ts` (ModelJSON). Reading checks everything that a loader would rely on, so
that a damaged or hostile file is refused here, by name, and not by wrong answers later.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

from pipcook_deploy.errors import ConversionError, SourceError
from pipcook_deploy.formats.tfjs_shards import ShardStream, shard_file
from pipcook_deploy.formats.tfjs_weights import (
    Array,
    Encoded,
    Spec,
    Storage,
    Weight,
    byte_size,
    decode,
    encode,
)

ModelFormat = Literal["tfjs_layers", "tfjs_graph"]
SHARD_SIZE = 4 * 1024 * 1024  # what browsers cache well, and what the reference converter writes

_FORMATS: dict[str, ModelFormat] = {"layers-model": "tfjs_layers", "graph-model": "tfjs_graph"}
_MANIFEST_HINT = "copy the whole folder that the model was saved to, shards included"


@dataclass(frozen=True)
class _Place:
    spec: Spec
    stream: ShardStream
    start: int
    size: int


class Weights(Mapping[str, Array]):
    """Values by name, read from the shards and dequantized when asked for."""

    def __init__(self, places: dict[str, _Place]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Array:
        encoded = self.encoded(name)
        return decode(encoded.spec, encoded.data)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def encoded(self, name: str) -> Encoded:
        """A weight as the file has it, still quantized."""
        place = self._places[name]
        return Encoded(place.spec, place.stream.read(place.start, place.size))


@dataclass(frozen=True)
class TfjsModel:
    """A `model.json`, checked. `specs` are in file order; `files` the shards; `data` the whole JSON."""

    format: ModelFormat
    topology: dict[str, Any]
    weights: Weights
    specs: tuple[Spec, ...]
    files: tuple[Path, ...]
    signature: dict[str, Any] | None = None
    generated_by: str | None = None
    converted_by: str | None = None
    data: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def layers_config(self) -> dict[str, Any]:
        """`class_name` and `config` of a layers-model, wherever its writer put them."""
        config = self.topology.get("model_config", self.topology)
        if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
            raise SourceError("modelTopology names no class: it is not a layers-model")
        return config


def read_model(file: Path) -> TfjsModel:
    """Read `model.json` and check it against its shards; the weights themselves are read later.

    Raises `SourceError`, saying what is wrong and where.
    """
    data = _read_json(file)
    topology = data.get("modelTopology")
    if not isinstance(topology, dict):
        raise SourceError(f"{file}: there is no modelTopology: these are weights without a model")
    places: dict[str, _Place] = {}
    shards: list[Path] = []
    try:
        for group in _manifest(data):
            stream = ShardStream([shard_file(file.parent, name) for name in group["paths"]])
            shards.extend(stream.files)
            _place(group["weights"], stream, places)
    except SourceError as error:
        raise SourceError(f"{file}: {error.message}", error.hint or _MANIFEST_HINT) from error
    return TfjsModel(
        format=_format(file, data, topology),
        topology=topology,
        weights=Weights(places),
        specs=tuple(place.spec for place in places.values()),
        files=tuple(shards),
        signature=_signature(data),
        generated_by=data.get("generatedBy"),
        converted_by=data.get("convertedBy"),
        data=data,
    )


def write_model(
    into: Path,
    *,
    model_format: ModelFormat,
    topology: dict[str, Any],
    weights: Iterable[Weight | Encoded],
    precision: Callable[[str], str | Storage] = lambda name: "float32",
    shard_size: int = SHARD_SIZE,
    generated_by: str,
    converted_by: str | None = None,
    signature: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write `model.json` and its shards into the folder `into`; returns the files, `model.json` first.

    Same input, same bytes. A shard's name holds the start of its sha256, so that a cache may keep it for
    ever. `extra` are further keys of `model.json` (`modelInitializer`...).
    """
    if shard_size < 1:
        raise ConversionError(f"the shard size must be at least one byte, not {shard_size}")
    specs, stream = encode(weights, precision)
    shards = _shards(stream, shard_size)
    name = next(key for key, value in _FORMATS.items() if value == model_format)
    data: dict[str, Any] = {
        "format": name,
        "generatedBy": generated_by,
        "convertedBy": converted_by,
    }
    if signature is not None:
        data["signature"] = signature
    if metadata is not None:
        data["userDefinedMetadata"] = metadata
    data |= (extra or {}) | {"modelTopology": topology}
    data["weightsManifest"] = [{"paths": list(shards), "weights": specs}]
    try:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ConversionError(
            f"the topology holds NaN or infinity, which JSON lacks: {error}"
        ) from error
    entry = into / "model.json"
    entry.write_text(text, encoding="utf-8")
    for shard, content in shards.items():
        (into / shard).write_bytes(content)
    return (entry, *(into / shard for shard in shards))


def _shards(stream: bytes, shard_size: int) -> dict[str, bytes]:
    count = ceil(len(stream) / shard_size)
    parts = (stream[i * shard_size : (i + 1) * shard_size] for i in range(count))
    return {
        f"weights-{i}of{count}.{hashlib.sha256(part).hexdigest()[:16]}.bin": part
        for i, part in enumerate(parts, 1)
    }


def _read_json(file: Path) -> dict[str, Any]:
    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=no_constant)
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise SourceError(f"{file}: not the model.json of a TF.js model")
    return data


def _format(file: Path, data: dict[str, Any], topology: dict[str, Any]) -> ModelFormat:
    # Files of TF.js before 1.3 carry no "format"; a GraphDef has nodes, a Keras model a class.
    name = data.get("format")
    if name is None:
        name = "graph-model" if isinstance(topology.get("node"), list) else "layers-model"
    if name not in _FORMATS:
        raise SourceError(f"{file}: the unknown format {name!r}")
    if name == "graph-model" and not isinstance(topology.get("node"), list):
        raise SourceError(f"{file}: a graph-model without nodes")
    if name == "layers-model" and not {"class_name", "model_config"} & topology.keys():
        raise SourceError(f"{file}: a layers-model without layers")
    return _FORMATS[name]


def _signature(data: dict[str, Any]) -> dict[str, Any] | None:
    # Converters before 2.0 wrote the signature as user metadata.
    metadata = data.get("userDefinedMetadata")
    found = data.get("signature") or (isinstance(metadata, dict) and metadata.get("signature"))
    return found if isinstance(found, dict) else None


def _manifest(data: dict[str, Any]) -> list[dict[str, Any]]:
    manifest = data.get("weightsManifest")
    if not isinstance(manifest, list):
        raise SourceError("there is no weightsManifest: this is a model without weights")
    for group in manifest:
        lists = isinstance(group, dict) and [group.get("paths"), group.get("weights")]
        if not lists or not all(isinstance(rows, list) for rows in lists):
            raise SourceError("weightsManifest: a group without a list of paths and of weights")
    return manifest


def _place(specs: list[Any], stream: ShardStream, places: dict[str, _Place]) -> None:
    """Find every weight of a group in its stream; the weights must fill it exactly."""
    at = 0
    for spec in specs:
        _check_spec(spec)
        if spec["name"] in places:
            raise SourceError(f"the weight {spec['name']!r} is there twice")
        size = _string_size(spec, stream, at) if spec["dtype"] == "string" else byte_size(spec)
        places[spec["name"]] = _Place(spec, stream, at, size)
        at += size
        if at > stream.size:
            raise SourceError(
                f"the shards are truncated: {stream.size} bytes, but {spec['name']!r} ends at {at}"
            )
    if at != stream.size:
        raise SourceError(f"the shards have {stream.size} bytes, the weights only {at}")


def _check_spec(spec: Any) -> None:
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        raise SourceError("weightsManifest: a weight without a name")
    shape = spec.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise SourceError(f"weight {spec['name']!r} has the shape {shape!r}")
    if not isinstance(spec.get("dtype"), str):
        raise SourceError(f"weight {spec['name']!r} has no dtype")


def _string_size(spec: Spec, stream: ShardStream, start: int) -> int:
    count, at = prod(spec["shape"]), start
    if start + 4 * count > stream.size:
        raise SourceError(
            f"the shards are truncated: no room for {count} strings of {spec['name']!r}"
        )
    for _ in range(count):
        at += 4 + int.from_bytes(stream.read(at, 4), "little")
    return at - start
