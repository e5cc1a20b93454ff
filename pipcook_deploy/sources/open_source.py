"""From a path to a model: unpack if need be, sniff, read."""

from dataclasses import replace
from pathlib import Path

from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.sources import archive, files
from pipcook_deploy.sources.graph_sources import load_onnx, load_saved_model, load_tflite
from pipcook_deploy.sources.keras_source import load_archive, load_h5
from pipcook_deploy.sources.pipcook import with_pipeline
from pipcook_deploy.sources.sniff import Found, sniff_file, sniff_folder
from pipcook_deploy.sources.tfjs_source import load_tfjs


def open_source(source: Path, workdir: Path, trusted: bool, signature: str | None) -> Model:
    """See `pipcook_deploy.sources.load`."""
    found = sniff_folder(source) if files.kind_of(source) == "folder" else sniff_file(source)
    root = source if source.is_dir() else source.parent
    if found.kind == "zip":
        return _open_zip(found.path, workdir, trusted, signature)
    return _open(found, root, workdir, trusted, signature)


def _open_zip(path: Path, workdir: Path, trusted: bool, signature: str | None) -> Model:
    folder = workdir / "unpacked"
    folder.mkdir()
    archive.unpack(path, folder)
    try:
        found = sniff_folder(folder)
        if found.kind == "zip":
            raise SourceError(f"{found.path.name} is itself an archive", "unpack it")
        model = _open(found, folder, workdir, trusted, signature)
    except SourceError as error:
        # The place of the copy means nothing to the user.
        message = error.message.removeprefix(f"{folder}: ")
        error.message = f"{path}: {message.replace(f'{folder}/', '').replace(str(folder), 'it')}"
        raise
    name = files.model_name(path.stem, model.spec.name)
    return replace(model.with_spec(name=name))


def _open(found: Found, root: Path, workdir: Path, trusted: bool, signature: str | None) -> Model:
    path = found.path
    if signature is not None and found.kind in ("keras_zip", "h5", "tfjs"):
        raise SourceError(f"{path}: this kind of model has no signatures", "leave out --signature")
    match found.kind:
        case "keras_zip":
            return load_archive(path, workdir, trusted)
        case "h5":
            return load_h5(path, workdir, trusted)
        case "tfjs":
            return with_pipeline(load_tfjs(path, trusted), root)
        case "saved_model":
            return load_saved_model(path, trusted, signature)
        case "onnx":
            return load_onnx(path, trusted, signature)
        case _:
            return load_tflite(path, trusted, signature)
