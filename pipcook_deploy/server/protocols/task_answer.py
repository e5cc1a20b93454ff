"""What a model's outputs mean to people: labels, boxes, or the tensors by name."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics.detections import read_detections
from pipcook_deploy.preprocess.decode import Limits, size
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.models.loaded import LoadedModel, Prediction
from pipcook_deploy.server.models.predictor import Score, UnsuitableModelError
from pipcook_deploy.server.models.seen import Seen, seen
from pipcook_deploy.server.models.values import image_bytes
from pipcook_deploy.server.protocols.task_input import Options
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.spec import ModelSpec

Row = dict[str, Any]
CLASSIFYING = ("image-classification", "text-classification")


def form(spec: ModelSpec) -> str:
    """What `data` holds for each sample: "classes", "boxes" or "outputs"."""
    if spec.task == "object-detection":
        return "boxes"
    return "classes" if spec.task in CLASSIFYING or spec.labels else "outputs"


def worded(
    found: LoadedModel,
    values: Sequence[object],
    prediction: Prediction,
    options: Options,
    settings: Settings,
) -> list[Any]:
    """The answer's `data`: an item for each value. Takes time where there are many numbers."""
    match form(found.spec):
        case "classes":
            return _classes(found, prediction, options.top)
        case "boxes":
            return _boxes(found, values, prediction, options, settings)
        case _:
            return [{"outputs": _readable(row, found)} for row in _samples(prediction, found)]


def _classes(found: LoadedModel, prediction: Prediction, top: int) -> list[Row]:
    ranked = [found.predictor.best(row, max(top, 1)) for row in found.scores_of(prediction)]
    return [_labelled(scores, top) for scores in ranked]


def _labelled(scores: list[Score], top: int) -> Row:
    row = _score(scores[0]) if scores else {}
    return row | {"top": [_score(score) for score in scores]} if top else row


def _score(score: Score) -> Row:
    return {"id": score.id, "category": score.category, "score": score.score}


def _samples(prediction: Prediction, found: LoadedModel) -> list[Tensors]:
    """The outputs of each sample, without the batch axis."""
    rows: list[Tensors] = []
    for outputs, count in prediction.parts:
        for name, value in outputs.items():
            if value.ndim == 0 or len(value) < count:
                raise UnsuitableModelError(
                    f"the output {name!r} has not one part for each sample",
                    f"use POST /v2/models/{found.name}/infer",
                )
        rows += [{name: value[i] for name, value in outputs.items()} for i in range(count)]
    return rows


def _readable(row: Tensors, found: LoadedModel) -> Row:
    drawn = found.spec.task == "image-to-image"
    return {
        name: _png(value) if drawn and _picture(value) else _json(value)
        for name, value in row.items()
    }


def _json(value: Any) -> Any:
    """What orjson writes as (nested) lists; NaN and infinities become null."""
    value = np.asarray(value)
    if value.dtype.kind in "OUS":
        return _texts(value.tolist())
    if value.dtype.kind == "c":
        raise UnsuitableModelError("the model answers complex numbers, which JSON does not have")
    if value.dtype.kind not in "biuf":
        value = value.astype(np.float32)  # bfloat16, which is none of numpy's own
    return value.item() if value.ndim == 0 else np.ascontiguousarray(value)


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _picture(value: Any) -> bool:
    """Only bytes in the usual order are pixels beyond doubt: of numbers the range is not declared."""
    return bool(
        value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] in (1, 3, 4) and value.size
    )


def _png(pixels: Any) -> dict[str, str]:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return {"png": base64.b64encode(buffer.getvalue()).decode()}


def _boxes(
    found: LoadedModel,
    values: Sequence[object],
    prediction: Prediction,
    options: Options,
    settings: Settings,
) -> list[list[Row]]:
    rows = _samples(prediction, found)
    return [
        _detected(found, row, _part(found, value, settings), options)
        for row, value in zip(rows, values, strict=True)
    ]


def _part(found: LoadedModel, value: object, settings: Settings) -> Seen:
    """The picture's part that the model saw; all of a unit square if no picture was sent."""
    tensor = found.spec.inputs[0]
    operations = found.spec.preprocessing.get(tensor.name, ())
    data = found.predictor.row(value)[tensor.name]
    if not operations or operations[0].op != "decode":
        return Seen(0.0, 0.0, 1.0, 1.0)
    data = image_bytes(data) if isinstance(data, str) else data
    assert isinstance(data, bytes)  # it has been decoded
    limits = Limits(max_pixels=settings.max_pixels)
    return seen(operations, *size(operations[0], data, limits))


def _detected(found: LoadedModel, row: Tensors, part: Seen, options: Options) -> list[Row]:
    try:
        told = read_detections({name: value[np.newaxis] for name, value in row.items()}, found.spec)
    except UsageError as error:
        raise UnsuitableModelError(error.message, error.hint) from None
    scores = told.scores[0]
    best = np.argsort(-scores, kind="stable")
    best = best[(scores[best] >= options.threshold) & (scores[best] >= 0)]
    return [
        {
            "id": int(told.classes[0][i]),
            "category": found.predictor.label(int(told.classes[0][i])),
            "score": float(scores[i]),
            "box": part.box(told.boxes[0][i]),
        }
        for i in best[: options.top or None]
    ]
