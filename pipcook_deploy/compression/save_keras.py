"""Writes changed Keras models: the same weights give the same bytes."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipcook_deploy.model import Model
from pipcook_deploy.sources.files import source_hash

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def save_keras(live: Any, source: Model, into: Path) -> Model:
    """`live`, which came from `source`, saved below `into` in the source's format."""
    path = into / ("model.h5" if source.format == "keras_h5" else "model.keras")
    if source.format == "keras_h5":
        live.save(str(path), save_format="h5", include_optimizer=False)
    else:
        live.save(str(path))
        _settle(path)
    return replace(source, path=path, source_hash=source_hash([path], None))


def _settle(path: Path) -> None:
    """An archive without the time of its making."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(entries["metadata.json"])
    metadata["date_saved"] = "1980-01-01@00:00:00"
    entries["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
