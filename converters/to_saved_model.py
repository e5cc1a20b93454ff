"""The SavedModel converter: from Keras one signature under the spec's names; a SavedModel stays as it is."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact, Binding
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.keras_io import load_keras
from pipcook_deploy.model import Model
from pipcook_deploy.saved_model_export import export_keras, label_lines
from pipcook_deploy.saved_model_io import binding, open_signature

# What a SavedModel consists of; anything else in a source folder is not copied.
_PARTS = ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra")


class SavedModelConverter(Converter):
    """Writes a SavedModel for inference: no optimizer, no training behaviour."""

    format: ClassVar[str] = "saved_model"
    accepts: ClassVar[tuple[str, ...]] = ("keras", "keras_h5", "saved_model", "tfjs_graph")

    def convert(self, model: Model, into: Path) -> Artifact:
        """Write `model` below `into`; a SavedModel is copied, the chosen signature is told in the details."""
        if model.format == "saved_model":
            return _from_saved_model(model, into)
        if model.format == "tfjs_graph":
            from pipcook_deploy.converters.tfjs.graph_import import import_graph

            return import_graph(model, into)
        return export_keras(model, load_keras(model), into)


def _from_saved_model(model: Model, into: Path) -> Artifact:
    serving = open_signature(model)
    names = {t.name for t in model.spec.inputs}, {t.name for t in model.spec.outputs}
    keys = {k for k, _ in serving.inputs}, {k for k, _ in serving.outputs}
    if any(want and want != got for want, got in zip(names, keys, strict=True)):
        raise ConversionError(
            f"{model.path}: its signature has {sorted(keys[0])} -> {sorted(keys[1])}, "
            f"the spec {sorted(names[0])} -> {sorted(names[1])}"
        )
    _copy(model.path, into)
    _add_labels(model, into)

    def bindings(rows: tuple[tuple[str, Any], ...]) -> tuple[Binding, ...]:
        return tuple(binding(key, key, spec) for key, spec in rows)

    return Artifact(
        "saved_model",
        "saved_model",
        into,
        ".",
        bindings(serving.inputs),
        bindings(serving.outputs),
        details={"signature": serving.name, "signatures": sorted(serving.owner.signatures)},
    )


def _copy(source: Path, into: Path) -> None:
    """The files that TensorFlow reads; links are not followed."""
    for name in _PARTS:
        part = source / name
        if part.is_symlink():
            raise ConversionError(f"{part}: is a link; only plain files are copied")
        if part.is_dir():
            for path in sorted(part.rglob("*")):
                if path.is_symlink():
                    raise ConversionError(f"{path}: is a link; only plain files are copied")
            shutil.copytree(part, into / name)
        elif part.is_file():
            shutil.copyfile(part, into / name)


def _add_labels(model: Model, into: Path) -> None:
    """Beside a finished graph labels are an extra asset, which needs no new graph."""
    text, own = label_lines(model.spec.labels), into / "assets" / "labels.txt"
    if text and not (own.exists() and own.read_text("utf-8") == text):
        (into / "assets.extra").mkdir(exist_ok=True)
        (into / "assets.extra" / "labels.txt").write_text(text, "utf-8")
