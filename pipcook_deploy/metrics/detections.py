"""What a detection model answers, read as boxes, scores and classes.

Three outputs, as TensorFlow's detection models give them (the object detection API's SavedModels, TFLite's
detection post-processing, `tf.image.combined_non_max_suppression`): boxes [n, k, 4], scores [n, k], classes [n, k],
and perhaps the number of detections [n]. They are told by their names ("box", "score", "class", "num" or "valid"),
or else by their shapes and values: boxes are the output whose last axis is 4, classes hold whole numbers.
Scores [n, k, classes] do for both scores and classes: the best class of each box.

A box is [y0, x0, y1, x1], relative to the picture that the model sees; with values above 2 it is taken for
pixels of the model's input. A class is a position in the labels; an output called `detection_classes` counts
from 1, as the object detection API does, unless the first label is a background. Raw grids, such as Pipcook's
YOLO gives, are not boxes yet and are refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import UsageError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

Array = NDArray[Any]
BOXES = ("box",)  # these may also be told by their shape alone
BACKGROUND = ("background", "__background__", "???")
PIXELS = 2.0  # a coordinate above this is no relative one, however far a box sticks out


@dataclass(frozen=True)
class Detections:
    """boxes [n, k, 4] relative y0, x0, y1, x1; scores [n, k] (-1: none); classes int64 [n, k]."""

    boxes: Array
    scores: Array
    classes: Array

    def __len__(self) -> int:
        return len(self.boxes)


def read_detections(outputs: Tensors, spec: ModelSpec) -> Detections:
    """The detections of every sample; `UsageError` when the outputs are not boxes."""
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    boxes = _named(arrays, BOXES, lambda value: value.ndim == 3 and value.shape[2] == 4)
    if boxes is None:
        raise _refused(arrays, "no output has boxes [n, k, 4]")
    rest = {name: value for name, value in arrays.items() if name != boxes}
    shape = arrays[boxes].shape[:2]
    scores, classes = _scores_and_classes(rest, shape)
    number = _named(rest, ("num", "valid"), lambda value: value.size == shape[0])
    if number is not None:
        present = np.arange(shape[1])[None, :] < rest[number].reshape(-1, 1)
        scores = np.where(present, scores, -1.0)
    if isinstance(classes, str):
        first = -1 if _from_one(classes, spec) else 0
        places = np.nan_to_num(rest[classes]).astype(np.int64) + first
    else:
        places = classes
    relative = _relative(arrays[boxes].astype(np.float64), spec)
    scores = np.where(np.isnan(scores) | np.isnan(relative).any(axis=2), -1.0, scores)
    return Detections(np.nan_to_num(relative), scores, places)


def _named(arrays: Tensors, words: tuple[str, ...], fits: Any) -> str | None:
    found = [name for name, value in arrays.items() if fits(value)]
    by_name = [name for name in found if any(word in name.lower() for word in words)]
    return next(iter(by_name or (found if words == BOXES else [])), None)


def _scores_and_classes(rest: Tensors, shape: tuple[int, ...]) -> tuple[Array, Any]:
    flat = {name: value for name, value in rest.items() if value.shape == shape}
    scores = next((name for name in flat if "score" in name.lower()), None)
    classes = next((name for name in flat if "class" in name.lower() and name != scores), None)
    if (scores is None or classes is None) and len(flat) == 2:
        one, other = flat
        whole = [_whole(flat[one]), _whole(flat[other])]
        if whole.count(True) == 1:
            classes, scores = (one, other) if whole[0] else (other, one)
    if scores is not None and classes is not None:
        return flat[scores].astype(np.float64), classes
    each = [value for value in rest.values() if value.ndim == 3 and value.shape[:2] == shape]
    if len(each) == 1:
        return each[0].max(axis=2).astype(np.float64), each[0].argmax(axis=2)
    raise _refused(rest, f"no outputs are scores and classes {list(shape)}")


def _whole(value: Array) -> bool:
    return value.dtype.kind in "iu" or bool(np.array_equal(value, np.floor(value)))


def _from_one(name: str, spec: ModelSpec) -> bool:
    background = bool(spec.labels) and spec.labels[0].lower() in BACKGROUND
    return "detection_classes" in name.lower() and not background


def _relative(boxes: Array, spec: ModelSpec) -> Array:
    known = boxes[np.isfinite(boxes)]
    if not known.size or np.abs(known).max() <= PIXELS:
        return boxes
    shape = spec.inputs[0].shape if spec.inputs else ()
    sides = shape[1:3] if len(shape) == 4 else ()
    if len(sides) != 2 or None in sides:
        raise UsageError(
            "the boxes are pixels, but the model's input has no fixed height and width",
            "let the model answer boxes relative to the picture, 0 to 1",
        )
    return boxes / np.array([*sides, *sides], np.float64)


def _refused(arrays: Tensors, why: str) -> UsageError:
    found = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items()) or "nothing"
    return UsageError(
        f"the answers cannot be scored as detections: {why} (found: {found})",
        "add the decoding of boxes and the suppression of overlaps to the model: outputs boxes [n, k, 4], "
        "scores [n, k], classes [n, k]",
    )
