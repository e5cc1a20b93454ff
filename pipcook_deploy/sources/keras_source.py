"""Keras models: `.keras` archives and full-model HDF5 files, told by content, read without TensorFlow."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import ZIP_STORED, ZipFile

from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.sources import archive, files, weights_h5
from pipcook_deploy.sources.keras_shapes import interface
from pipcook_deploy.sources.keras_topology import Graph, is_recurrent, parse
from pipcook_deploy.sources.untrusted import check_layers
from pipcook_deploy.spec import Details, ModelSpec

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_WEIGHTS_HINT = "save the whole model: model.save('model.keras')"


def is_keras_archive(names: set[str]) -> bool:
    """Whether the entries of a zip are those of a `.keras` file."""
    return CONFIG in names and (METADATA in names or WEIGHTS in names)


def load_archive(path: Path, workdir: Path, trusted: bool) -> Model:
    """A `.keras` file. One saved by Keras 2 has the format `keras_h5`: tf_keras opens it."""
    topology, version, weights = _read_archive(path)
    check_layers(str(path), topology, trusted)
    details: Details = {"keras": version, "parameters": weights[0], "weight_bytes": weights[1]}
    return _model(path, workdir / "model.keras", topology, version, trusted, details)


def load_h5(path: Path, workdir: Path, trusted: bool) -> Model:
    """A full-model HDF5 file. Raises `SourceError` for one that holds weights only."""
    topology, version, weights = _read_h5(path)
    check_layers(str(path), topology, trusted)
    details: Details = {"keras": version, "parameters": weights[0], "weight_bytes": weights[1]}
    return _model(path, workdir / "model.h5", topology, version, trusted, details)


def graph_of(path: Path) -> Graph:
    """The graph of a Keras file of either kind."""
    if files.head(path).startswith(weights_h5.MAGIC):
        return parse(_read_h5(path)[0], str(path))
    return parse(_read_archive(path)[0], str(path))


def _read_archive(path: Path) -> tuple[dict[str, Any], str, tuple[int, int]]:
    with archive.opened(path) as zipped:
        config = archive.read_entry(path, zipped, CONFIG, files.MAX_JSON)
        topology = files.parse_json(config, f"{path}: {CONFIG}")
        version = "3"
        if METADATA in zipped.namelist():
            raw = archive.read_entry(path, zipped, METADATA, files.MAX_JSON)
            metadata = files.parse_json(raw, f"{path}: {METADATA}")
            version = str(metadata.get("keras_version", 3)) if isinstance(metadata, dict) else "3"
        if WEIGHTS not in zipped.namelist():
            raise SourceError(f"{path}: has no {WEIGHTS}: a model without weights", _WEIGHTS_HINT)
        with _weights(path, zipped) as h5:
            weights = weights_h5.count(weights_h5.datasets(h5, str(path)))
    if not isinstance(topology, dict):
        raise SourceError(f"{path}: {CONFIG}: not the config of a model")
    return topology, version, weights


@contextmanager
def _weights(path: Path, zipped: ZipFile) -> Iterator[Any]:
    entry = zipped.getinfo(WEIGHTS)
    for _ in archive.blocks(path, zipped, entry, archive.MAX_TOTAL):
        pass  # walks to the checksum at the end
    stream: BinaryIO = cast(BinaryIO, zipped.open(entry))
    if entry.compress_type != ZIP_STORED:  # seeking in it would unpack it again and again
        stream = io.BytesIO(stream.read())
    with stream, weights_h5.opened(stream, f"{path}: {WEIGHTS}") as h5:
        yield h5


def _read_h5(path: Path) -> tuple[dict[str, Any], str, tuple[int, int]]:
    with weights_h5.opened(path, str(path)) as h5:
        config = weights_h5.text(h5.attrs.get("model_config"))
        if config is None:
            raise SourceError(f"{path}: weights without a topology", _WEIGHTS_HINT)
        version = weights_h5.text(h5.attrs.get("keras_version")) or "2"
        if "model_weights" not in h5:
            raise SourceError(f"{path}: a topology without weights", _WEIGHTS_HINT)
        weights = weights_h5.count(weights_h5.datasets(h5["model_weights"], str(path)))
    topology = files.parse_json(config, f"{path}: model_config")
    if not isinstance(topology, dict):
        raise SourceError(f"{path}: model_config: not the config of a model")
    return topology, version, weights


def _model(
    path: Path, alias: Path, topology: dict[str, Any], version: str, trusted: bool, details: Details
) -> Model:
    graph = parse(topology, str(path))
    found = interface(graph)
    if found.ids:
        details = details | {"ids": dict(found.ids)}
    major = version.split(".", 1)[0]
    return Model(
        path=_suffixed(path, alias),
        format="keras" if major.isdigit() and int(major) >= 3 else "keras_h5",
        spec=ModelSpec(
            name=files.model_name(path.stem, graph.name),
            inputs=found.inputs,
            outputs=found.outputs,
            notes=found.notes,
        ),
        source_hash=files.source_hash([path], None),
        trusted=trusted,
        details=details
        | {
            "layers": _layer_count(graph),
            "model_class": graph.class_name,
            "recurrent": is_recurrent(topology),
        },
    )


def _suffixed(path: Path, alias: Path) -> Path:
    """Keras tells a file's kind by its suffix: a link with the right one stands in for a misnamed file."""
    right = {".keras"} if alias.suffix == ".keras" else {".h5", ".hdf5"}
    if path.suffix in right:
        return path
    alias.symlink_to(path.resolve())
    return alias


def _layer_count(graph: Graph) -> int:
    nested = sum(_layer_count(layer.graph) for layer in graph.layers if layer.graph is not None)
    return nested + sum(layer.graph is None for layer in graph.layers)
