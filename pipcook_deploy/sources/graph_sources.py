"""SavedModel folders, ONNX and TFLite files: a spec from their own readers."""

from math import prod
from pathlib import Path

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.onnx_file import OnnxFile, read_onnx
from pipcook_deploy.formats.saved_model_file import DTYPES, SavedModelFile, read_saved_model
from pipcook_deploy.formats.tensor_bundle import BundleEntry, read_bundle
from pipcook_deploy.formats.tflite_file import TfliteFile, read_tflite
from pipcook_deploy.model import Model
from pipcook_deploy.sources import files
from pipcook_deploy.sources.untrusted import check_ops
from pipcook_deploy.spec import Details, ModelSpec, Signature
from pipcook_deploy.text import did_you_mean

DEFAULT = "serving_default"
_COPY = "copy or download it again"


def open_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file, its path in every error."""
    try:
        return read_onnx(files.view(path), path.parent)
    except SourceError as error:
        raise SourceError(f"{path}: {error.message}", error.hint or _COPY) from error


def open_tflite(path: Path) -> TfliteFile:
    """Read a TFLite file, its path in every error."""
    try:
        return read_tflite(files.view(path))
    except SourceError as error:
        raise SourceError(f"{path}: {error.message}", error.hint or _COPY) from error


def open_saved_model(folder: Path) -> SavedModelFile:
    """Read a SavedModel's graph, its path in every error."""
    path = folder / "saved_model.pb"
    try:
        return read_saved_model(files.view(path))
    except SourceError as error:
        raise SourceError(f"{path}: {error.message}", error.hint or _COPY) from error


def load_onnx(path: Path, trusted: bool, signature: str | None) -> Model:
    """An ONNX model of opset 8 or later."""
    _no_signatures(path, "ONNX", signature)
    onnx = open_onnx(path)
    check_ops(str(path), onnx.ops, trusted)
    notes = [f"the rank of {name!r} is not told" for name in onnx.unranked]
    foreign = sorted({d for d in onnx.opsets if d and any(n.domain == d for n in onnx.nodes)})
    if foreign:
        notes.append(f"operators of other sets are used: {', '.join(foreign)}")
    return Model(
        path=path,
        format="onnx",
        spec=ModelSpec(
            name=files.model_name(path.stem, path.resolve().parent.name, onnx.graph_name),
            inputs=onnx.inputs,
            outputs=onnx.outputs,
            notes=tuple(notes),
        ),
        source_hash=_hash(path, onnx.external),
        trusted=trusted,
        details={
            "producer": onnx.producer,
            "opset": onnx.opset,
            "ir_version": onnx.ir_version,
            "weight_bytes": onnx.weight_bytes,
            "external_files": [file.relative_to(path.parent).as_posix() for file in onnx.external],
            "ops": dict(sorted(onnx.ops.items())),
        },
    )


def _hash(path: Path, external: tuple[Path, ...]) -> str:
    if not external:
        return files.source_hash([path], None)
    return files.source_hash([path, *external], path.parent)


def load_tflite(path: Path, trusted: bool, signature: str | None) -> Model:
    """A TFLite model; the interface of its signature, or of its graph if it has none."""
    tflite = open_tflite(path)
    chosen = None
    if tflite.signatures or signature:
        chosen = _choose(path, list(tflite.signatures), signature)
    interface = tflite.signatures[chosen] if chosen else tflite.graph_signature
    notes = []
    if tflite.custom_ops:
        notes.append(f"custom operators are used: {', '.join(tflite.custom_ops)}")
    return Model(
        path=path,
        format="tflite",
        spec=_spec(files.model_name(path.stem), interface, tflite.signatures, notes),
        source_hash=files.source_hash([path], None),
        trusted=trusted,
        signature=chosen,
        details={
            "description": tflite.description,
            "schema": tflite.version,
            "subgraphs": len(tflite.subgraphs),
            "weight_bytes": tflite.weight_bytes,
            "ops": dict(sorted(tflite.ops.items())),
        },
    )


def load_saved_model(folder: Path, trusted: bool, signature: str | None) -> Model:
    """A SavedModel folder, its variables complete."""
    saved = open_saved_model(folder)
    check_ops(str(folder), saved.ops, trusted)
    variables = _variables(folder, saved)
    if not saved.signatures:
        why = "; ".join(f"{name}: {text}" for name, text in saved.skipped.items())
        raise SourceError(
            f"{folder}: has no signature that can be called" + (f" ({why})" if why else ""),
            "save it with signatures: tf.saved_model.save(model, folder, signatures=...)",
        )
    chosen = _choose(folder, list(saved.signatures), signature)
    notes = [f"the rank of {name!r} is not told" for name in saved.unranked[chosen]]
    notes += [f"the signature {name!r} is left out: {why}" for name, why in saved.skipped.items()]
    labels = _labels(folder)
    spec = _spec(
        files.model_name(folder.resolve().name, folder.resolve().parent.name),
        saved.signatures[chosen],
        saved.signatures,
        notes,
    )
    return Model(
        path=folder,
        format="saved_model",
        spec=spec.with_changes(labels=labels) if labels else spec,
        source_hash=files.source_hash(_files(folder), folder),
        trusted=trusted,
        signature=chosen,
        details=variables
        | {
            "tensorflow": saved.tensorflow,
            "tags": list(saved.tags),
            "ops": dict(sorted(saved.ops.items())),
        },
    )


def _variables(folder: Path, saved: SavedModelFile) -> Details:
    variables = folder / "variables"
    if not variables.is_dir():
        if any(op in saved.ops for op in ("VarHandleOp", "VariableV2", "RestoreV2")):
            raise SourceError(
                f"{folder}: the folder variables/ is missing", "copy the whole SavedModel folder"
            )
        return {"parameters": 0, "weight_bytes": 0}
    try:
        entries = read_bundle(variables)
    except SourceError as error:
        where = "" if str(variables) in error.message else f"{variables}: "
        raise SourceError(f"{where}{error.message}", error.hint or _COPY) from error
    # Keras' export stores every variable twice; the list `_all_variables` is complete.
    listed = {k: v for k, v in entries.items() if k.startswith("_all_variables/")}
    own = [v for k, v in (listed or entries).items() if _is_weight(k, v)]
    return {
        "parameters": sum(prod(entry.shape) for entry in own),
        "weight_bytes": sum(entry.size for entry in own),
    }


def _is_weight(key: str, entry: BundleEntry) -> bool:
    foreign = "optimizer" in key or "keras_api/metrics" in key or "seed_generator" in key
    return not foreign and DTYPES.get(entry.dtype, "string") != "string"


def _labels(folder: Path) -> tuple[str, ...]:
    """`labels.txt` of the assets, one label a line, as this project's own converter writes it."""
    places = [folder / name / "labels.txt" for name in ("assets.extra", "assets")]
    path = next((place for place in places if place.is_file()), None)
    if path is None or path.stat().st_size > files.MAX_JSON:
        return ()
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text") from error


def _files(folder: Path) -> list[Path]:
    parts = [folder / "saved_model.pb"]
    for name in ("variables", "assets", "assets.extra"):
        parts.extend((folder / name).rglob("*"))
    root = folder.resolve()
    outside = [p for p in parts if not p.resolve().is_relative_to(root)]
    if outside:
        raise SourceError(f"{outside[0]}: is a link out of the model's folder")
    return [path for path in parts if path.is_file()]


def _spec(
    name: str, chosen: Signature, signatures: dict[str, Signature], notes: list[str]
) -> ModelSpec:
    return ModelSpec(
        name=name,
        inputs=chosen.inputs,
        outputs=chosen.outputs,
        signatures=signatures,
        notes=tuple(notes),
    )


def _choose(path: Path, names: list[str], wanted: str | None) -> str:
    listed = ", ".join(sorted(names)) or "none"
    if wanted is not None:
        if wanted not in names:
            raise SourceError(
                f"{path}: has no signature {wanted!r}{did_you_mean(wanted, names)}",
                f"it has: {listed}",
            )
        return wanted
    if DEFAULT in names:
        return DEFAULT
    if len(names) == 1:
        return names[0]
    raise SourceError(f"{path}: has several signatures: {listed}", "say which: --signature NAME")


def _no_signatures(path: Path, kind: str, wanted: str | None) -> None:
    if wanted is not None:
        raise SourceError(f"{path}: {kind} models have no signatures", "leave out --signature")
