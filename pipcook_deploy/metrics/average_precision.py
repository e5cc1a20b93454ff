"""Average precision as COCO defines it: matching by pycocotools, curves of many resamples at once."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.errors import MissingDependencyError
from pipcook_deploy.metrics.detections import Detections

Array = NDArray[Any]
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of intersection over union
RECALLS = np.linspace(0, 1, 101)
MOST_DETECTIONS = 100  # of one class in one picture


@dataclass(frozen=True)
class Matches:
    """One class: its detections by falling score, and how many real objects each sample has.

    `sample` is [d]; `hit` and `ignored` (on a crowd) are bool [thresholds, d]; `objects` is [n].
    """

    sample: Array
    hit: Array
    ignored: Array
    objects: Array


def match(detections: Detections, targets: list[Any], thresholds: Array) -> dict[int, Matches]:
    """By class: which detections hit a real object that no better one has taken.

    `targets` are as `Split.targets()` gives them. Classes without a real object have no precision, as in COCO.
    """
    evaluation = _evaluated(detections, targets, thresholds)
    groups: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for found in evaluation.evalImgs:
        if found is not None:
            groups.setdefault(found["category_id"], []).append((found["image_id"] - 1, found))
    matches = {
        label: _joined(rows, len(targets), len(thresholds)) for label, rows in groups.items()
    }
    return {label: found for label, found in sorted(matches.items()) if found.objects.any()}


def average_precisions(matches: Matches, rows: Array) -> Array:
    """[group, thresholds] for resamples of the samples, rows [group, n]; NaN where one has no real object.

    A sample that is drawn twice counts its detections twice, at once.
    """
    group, count = rows.shape
    offsets = np.arange(group)[:, None] * count
    weights = np.bincount((rows + offsets).ravel(), minlength=group * count).reshape(group, count)
    objects = weights @ matches.objects
    drawn = weights[:, matches.sample].astype(np.float64)
    found = np.full((group, len(matches.hit)), np.nan)
    present = objects > 0
    for place, (hit, ignored) in enumerate(zip(matches.hit, matches.ignored, strict=True)):
        right = np.cumsum(drawn * (hit & ~ignored), axis=1)[present]
        wrong = np.cumsum(drawn * (~hit & ~ignored), axis=1)[present]
        found[present, place] = _area(right, wrong, objects[present])
    return found


def _area(right: Array, wrong: Array, objects: Array) -> Array:
    """Mean precision at 101 recalls, [group], of running counts [group, d]."""
    if right.shape[1] == 0:
        return np.zeros(len(right))
    recall = right / objects[:, None]
    precision = right / np.maximum(right + wrong, np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One search for all rows: each is moved into an interval of its own.
    lanes = np.arange(len(recall))[:, None] * 2.0
    places = np.searchsorted((recall + lanes).ravel(), (RECALLS + lanes - 1e-9).ravel())
    places = places.reshape(len(recall), -1) - np.arange(len(recall))[:, None] * recall.shape[1]
    padded = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    means: Array = np.take_along_axis(padded, np.minimum(places, best.shape[1]), axis=1).mean(
        axis=1
    )
    return means


def _joined(rows: list[tuple[int, dict[str, Any]]], count: int, thresholds: int) -> Matches:
    objects = np.zeros(count)
    for number, found in rows:
        objects[number] = int((np.asarray(found["gtIgnore"]) == 0).sum())
    scores = np.concatenate([np.asarray(found["dtScores"], np.float64) for _, found in rows])
    order = np.argsort(-scores, kind="mergesort")
    sample = np.concatenate([np.full(len(f["dtScores"]), s, np.int64) for s, f in rows])
    hit, ignored = (
        np.concatenate([np.asarray(f[key]).reshape(thresholds, -1) for _, f in rows], axis=1)
        for key in ("dtMatches", "dtIgnore")
    )
    return Matches(
        sample[order], hit[:, order].astype(bool), ignored[:, order].astype(bool), objects
    )


def _evaluated(detections: Detections, targets: list[Any], thresholds: Array) -> Any:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingDependencyError(
            "the metrics map and map50 need pycocotools",
            "run: pip install 'pipcook-deploy[compress]'",
        ) from error

    real, told = _real(targets), _told(detections)
    labels = sorted({row["category_id"] for row in real})
    images = [{"id": number + 1} for number in range(len(targets))]
    with contextlib.redirect_stdout(io.StringIO()):  # it says how far it is
        sets = []
        for annotations in (real, told):
            made = COCO()
            made.dataset = {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": label} for label in labels],
            }
            made.createIndex()
            sets.append(made)
        evaluation = COCOeval(*sets, iouType="bbox")
        evaluation.params.iouThrs = thresholds
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    return evaluation


def _real(targets: list[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, target in enumerate(targets):
        crowds = target.get("crowd") or [0] * len(target["labels"])
        for box, label, crowd in zip(target["boxes"], target["labels"], crowds, strict=True):
            found.append({**_annotation(len(found), number, box, label), "iscrowd": int(crowd)})
    return found


def _told(detections: Detections) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, place in np.argwhere(detections.scores > 0).tolist():
        box = detections.boxes[number, place].tolist()
        row = _annotation(len(found), number, box, int(detections.classes[number, place]))
        found.append(row | {"score": float(detections.scores[number, place])})
    return found


def _annotation(number: int, image: int, box: Any, label: int) -> dict[str, Any]:
    top, left, bottom, right = (float(side) for side in box)
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    return {
        "id": number + 1,  # 0 would mean "not matched"
        "image_id": image + 1,
        "category_id": label,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
    }
