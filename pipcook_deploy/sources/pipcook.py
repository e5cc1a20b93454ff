"""What a Pipcook 2.x run leaves beside a TF.js model: labels, kind of task and input preparation.

Read from `categories.json` and `pipeline.json`. Whatever these do not tell is said in the notes, in plain
words, and never guessed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipcook_deploy.errors import SourceError
from pipcook_deploy.model import Model
from pipcook_deploy.preprocess.operations import (
    Cast,
    Decode,
    NormalizePerImage,
    Operation,
    Resize,
)
from pipcook_deploy.sources import files
from pipcook_deploy.spec import Details, Task

_TASKS: dict[str, Task] = {
    "ImageClassification": "image-classification",
    "ObjectDetection": "object-detection",
    "TextClassification": "text-classification",
}
_BOXES = (
    "boxes are decoded from the raw outputs by Pipcook's scripts; that step is not in the model"
)


def is_bayes(data: Any) -> bool:
    """Whether a JSON value is the naive Bayes model of Pipcook's text classification."""
    return (
        isinstance(data, dict) and data.get("name") == "MultinomialNB" and "conditionProb" in data
    )


def bayes_error(path: Path) -> SourceError:
    """Says what such a model is."""
    return SourceError(
        f"{path}: a Pipcook naive Bayes text model, which is not supported yet",
        "deploy a TF.js, Keras, SavedModel, ONNX or TFLite model",
    )


def with_pipeline(model: Model, root: Path) -> Model:
    """The TF.js model with what lies beside it; the same model if nothing of Pipcook does.

    `root` is the folder that the user gave: a workspace keeps a copy of its pipeline there.
    """
    folder = model.path.parent
    categories, pipeline = folder / "categories.json", folder / "pipeline.json"
    extra = [path for path in (categories, pipeline) if path.is_file()]
    meta = _pipeline(pipeline) if pipeline.is_file() else None
    if meta is None and not categories.is_file():
        if folder == root or not (root / "model" / model.path.name).is_file():
            return model
        extra = []
    notes = list(model.spec.notes)
    task = _task(meta, notes)
    labels = _labels(categories, model, task, notes) if categories.is_file() else ()
    if not categories.is_file() and task != "tensor":
        notes.append("categories.json is missing: the labels are not known")
    preprocessing = _preprocessing(meta, model, notes)
    if task == "object-detection":
        notes.append(_BOXES)
    listed = [model.path, *_shards(model), *extra]
    details = model.details | _facts(meta)
    return replace(
        model.with_spec(
            task=task,
            labels=labels,
            preprocessing=preprocessing,
            notes=tuple(notes),
        ),
        source_hash=files.source_hash(listed, folder),
        details=details,
    )


def _shards(model: Model) -> list[Path]:
    data = files.read_json(model.path)
    names = [name for group in data["weightsManifest"] for name in group["paths"]]
    return [model.path.parent / name for name in names]


def _pipeline(path: Path) -> dict[str, Any] | None:
    data = files.read_json(path)
    if not isinstance(data, dict):
        raise SourceError(f"{path}: not a Pipcook pipeline: an object is expected")
    return data if "specVersion" in data or "dataflow" in data else None


def _task(meta: dict[str, Any] | None, notes: list[str]) -> Task:
    if meta is None:
        notes.append("pipeline.json is missing: the task and how inputs are prepared are not known")
        return "tensor"
    task = _TASKS.get(str(meta.get("type")))
    if task is None:
        notes.append(f"the pipeline's type {meta.get('type')!r} is not known")
    return task or "tensor"


def _labels(path: Path, model: Model, task: Task, notes: list[str]) -> tuple[str, ...]:
    labels = files.read_json(path)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise SourceError(f"{path}: a list of names is expected")
    width = model.spec.outputs[0].shape[-1] if model.spec.outputs[0].shape else None
    if task != "object-detection" and width is not None and width != len(labels):
        notes.append(
            f"categories.json has {len(labels)} labels, but the model answers {width} numbers: "
            "the labels are left out"
        )
        return ()
    return tuple(labels)


def _facts(meta: dict[str, Any] | None) -> Details:
    if meta is None:
        return {}
    facts: Details = {"pipcook_type": str(meta.get("type"))}
    options = meta.get("options")
    if isinstance(options, dict) and isinstance(options.get("framework"), str):
        facts["pipcook_framework"] = options["framework"]
    return facts


def _preprocessing(
    meta: dict[str, Any] | None, model: Model, notes: list[str]
) -> dict[str, tuple[Operation, ...]]:
    if meta is None or meta.get("type") == "TextClassification":
        if meta is not None:
            notes.append("the pipeline does not tell how a text becomes numbers")
        return {}
    query = _query(meta, notes)
    if query is None or len(model.spec.inputs) != 1:
        return {}
    shape = model.spec.inputs[0].shape
    if len(shape) != 4 or shape[3] != 3:
        notes.append(
            f"Pipcook feeds RGB images, but the input has the shape {list(shape)}: "
            "how it is prepared is not known"
        )
        return {}
    size = _size(query, shape, notes)
    if size is None:
        return {}
    # Pipcook keeps the query string: any text, "false" and "0" too, switches `normalize` on.
    normalize = bool(query.get("normalize", [""])[-1])
    if normalize and query["normalize"][-1].lower() in ("false", "0", "no"):
        notes.append(
            f"the pipeline says normalize={query['normalize'][-1]}, which Pipcook takes for yes"
        )
    steps: list[Operation] = [
        Decode(channels="rgb", exif=True, alpha="drop"),
        Resize(height=size[0], width=size[1], method="area_bilinear", fit="stretch", round=True),
        NormalizePerImage(rounded=True) if normalize else Cast(dtype="float32"),
    ]
    return {model.spec.inputs[0].name: tuple(steps)}


def _query(meta: dict[str, Any], notes: list[str]) -> dict[str, list[str]] | None:
    """The options of the dataflow script that sets the size of images."""
    urls = meta.get("dataflow") or []
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        notes.append("the pipeline's dataflow is not a list of addresses: it is left out")
        return None
    queries = [(url, parse_qs(urlsplit(url).query)) for url in urls]
    sized = [(url, query) for url, query in queries if "size" in query]
    others = [url for url, query in queries if "size" not in query]
    if len(sized) != 1 or others:
        names = ", ".join(unquote(urlsplit(url).path.rsplit("/", 1)[-1]) for url in others or urls)
        notes.append(
            "how inputs are prepared is not known: "
            + (f"the dataflow script {names} is not one of Pipcook's" if names else "no dataflow")
        )
        return None
    return sized[0][1]


def _size(
    query: dict[str, list[str]], shape: tuple[int | None, ...], notes: list[str]
) -> tuple[int, int] | None:
    """Height and width: the pipeline's two numbers, which must be those of the model's input."""
    written = query["size"]
    sizes = [int(text) for text in written if text.isascii() and text.isdigit()]
    if len(sizes) != 2 or len(written) != 2 or not all(1 <= size <= 65535 for size in sizes):
        notes.append(f"the pipeline's size {', '.join(written)} is not two numbers of pixels")
        return None
    height, width = shape[1], shape[2]
    if height is None or width is None:
        if sizes[0] == sizes[1]:
            return sizes[0], sizes[1]
        notes.append("the pipeline's size does not tell which number is the height")
        return None
    if sorted(sizes) != sorted((height, width)):
        notes.append(
            f"the pipeline resizes to {sizes[0]} x {sizes[1]}, but the model takes {height} x {width}: "
            "how inputs are prepared is not known"
        )
        return None
    return height, width
