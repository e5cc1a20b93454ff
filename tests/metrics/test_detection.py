import contextlib
import io

import numpy as np
import pytest

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics import metric_called
from pipcook_deploy.spec import ModelSpec, TensorSpec

SPEC = ModelSpec(
    task="object-detection",
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 100, 200, 3)),),
    outputs=tuple(
        TensorSpec(name=name, dtype="float32", shape=(None, None))
        for name in ("boxes", "scores", "classes")
    ),
    labels=("cat", "dog"),
)


def _outputs(boxes, scores, classes):
    return {
        "boxes": np.array(boxes, np.float32),
        "scores": np.array(scores, np.float32),
        "classes": np.array(classes, np.float32),
    }


ONE = [0.1, 0.1, 0.5, 0.5]
FAR = [0.6, 0.6, 0.9, 0.9]
TRUTH = [{"boxes": [ONE], "labels": [0]}, {"boxes": [ONE], "labels": [0]}]


def test_everything_found_is_1():
    told = _outputs([[ONE], [ONE]], [[0.9], [0.8]], [[0], [0]])
    found = metric_called("map").score(told, TRUTH, SPEC)
    assert found.value == pytest.approx(1)
    assert found.per_class == pytest.approx({"cat": 1})


def test_half_found_after_a_false_alarm_by_hand():
    # Falling score: wrong, right. One of two objects: recall 0.5 at precision 0.5, so the 51 recalls of
    # 101 up to 0.5 have precision 0.5.
    told = _outputs([[FAR], [ONE]], [[0.9], [0.8]], [[0], [0]])
    found = metric_called("map50").score(told, TRUTH, SPEC)
    assert found.value == pytest.approx(51 / 101 * 0.5)


def test_a_second_box_on_an_object_is_a_false_alarm():
    told = _outputs([[ONE, ONE], [ONE, FAR]], [[0.9, 0.8], [0.7, 0.1]], [[0, 0], [0, 0]])
    # right, wrong, right: precision 1 up to recall 0.5, then 2/3.
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert metric_called("map50").score(told, TRUTH, SPEC).value == pytest.approx(expected)


def test_a_box_that_overlaps_by_6_tenths_is_right_at_3_of_10_thresholds():
    wide = [0.1, 0.1, 0.5, 0.1 + 0.4 / 0.62]  # intersection over union 0.62
    told = _outputs([[wide], [wide]], [[0.9], [0.8]], [[0], [0]])
    assert metric_called("map").score(told, TRUTH, SPEC).value == pytest.approx(0.3)
    assert metric_called("map50").score(told, TRUTH, SPEC).value == pytest.approx(1)


def _drawn(pictures=60, seed=0):
    rng = np.random.default_rng(seed)
    truth, boxes, scores, classes = [], [], [], []
    for _ in range(pictures):
        corners = rng.random((4, 2)) * 0.5
        sides = 0.1 + 0.3 * rng.random((4, 2))
        real = np.concatenate([corners, corners + sides], axis=1)
        labels = rng.integers(0, 2, 4)
        kept = rng.integers(1, 4)
        truth.append(
            {
                "boxes": real[:kept].tolist(),
                "labels": labels[:kept].tolist(),
                "crowd": [int(rng.random() < 0.1) for _ in range(kept)],
            }
        )
        moved = real + 0.03 * rng.standard_normal(real.shape)
        boxes.append(np.concatenate([moved, real[::-1]]))
        scores.append(rng.random(8))
        classes.append(np.concatenate([labels, rng.integers(0, 2, 4)]))
    return truth, _outputs(boxes, scores, classes)


@pytest.mark.parametrize("name", ["map", "map50"])
def test_values_are_those_of_pycocotools(name):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, told = _drawn()
    sides = np.array([100, 200, 100, 200])
    real, found = COCO(), COCO()
    images = [{"id": number} for number in range(len(truth))]
    categories = [{"id": 0}, {"id": 1}]

    def row(box, image, label, **more):
        top, left, bottom, right = np.asarray(box, np.float64) * sides
        return {
            "image_id": image, "category_id": int(label), "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top), "iscrowd": 0, **more,
        }  # fmt: skip

    rows = [
        row(box, image, label, iscrowd=crowd)
        for image, target in enumerate(truth)
        for box, label, crowd in zip(
            target["boxes"], target["labels"], target["crowd"], strict=True
        )
    ]
    answers = [
        row(told["boxes"][i, j], i, told["classes"][i, j], score=float(told["scores"][i, j]))
        for i in range(len(truth))
        for j in range(8)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        for made, annotations in ((real, rows), (found, answers)):
            for number, annotation in enumerate(annotations):
                annotation["id"] = number + 1
            made.dataset = {"images": images, "annotations": annotations, "categories": categories}
            made.createIndex()
        evaluation = COCOeval(real, found, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = metric_called(name).score(told, truth, SPEC)
    assert ours.value == pytest.approx(evaluation.stats[0 if name == "map" else 1], abs=1e-9)
    assert ours.low < ours.value < ours.high


def test_a_worse_model_has_a_paired_positive_drop():
    truth, told = _drawn()
    after = {**told, "boxes": told["boxes"] + 0.03}
    metric = metric_called("map")
    found = metric.drop(told, after, truth, SPEC)
    assert found.value == pytest.approx(
        metric.score(told, truth, SPEC).value - metric.score(after, truth, SPEC).value
    )
    assert 0 < found.low < found.value < found.high
    assert found.changed == 0  # the boxes moved; what is seen stayed


def test_the_same_answers_have_no_drop():
    truth, told = _drawn(20)
    found = metric_called("map50").drop(told, told, truth, SPEC)
    assert (found.value, found.low, found.high, found.changed) == (0, 0, 0, 0)


def test_pixels_names_and_counts_of_tensorflows_detection_models():
    truth, told = _drawn(20)
    named = {
        "detection_classes": told["classes"] + 1,  # counts from 1
        "detection_boxes": told["boxes"] * np.array([100, 200, 100, 200], np.float32),
        "num_detections": np.full(20, 8, np.float32),
        "detection_scores": told["scores"],
    }
    metric = metric_called("map")
    expected = metric.score(told, truth, SPEC)
    found = metric.score(named, truth, SPEC)
    assert found.value == pytest.approx(expected.value, abs=1e-6)
    none = metric.score(named | {"num_detections": np.zeros(20, np.float32)}, truth, SPEC)
    assert none.value == 0


def test_outputs_are_told_by_their_shapes_where_names_say_nothing():
    truth, told = _drawn(20)
    renamed = {"a": told["scores"], "b": told["classes"], "c": told["boxes"]}
    each = np.zeros((20, 8, 2), np.float32)
    np.put_along_axis(
        each, told["classes"].astype(int)[..., None], told["scores"][..., None], axis=2
    )
    metric = metric_called("map50")
    expected = metric.score(told, truth, SPEC).value
    assert metric.score(renamed, truth, SPEC).value == expected
    assert metric.score({"x": each, "y": told["boxes"]}, truth, SPEC).value == expected


def test_raw_grids_are_refused():
    grids = {
        "grid_0": np.zeros((2, 13, 13, 3, 7), np.float32),
        "grid_1": np.zeros((2, 26, 26, 3, 7), np.float32),
    }
    with pytest.raises(UsageError, match=r"no output has boxes.*grid_0 \[2, 13, 13, 3, 7\]"):
        metric_called("map").score(grids, TRUTH, SPEC)


def test_data_without_boxes_is_refused():
    told = _outputs([[ONE], [ONE]], [[0.9], [0.8]], [[0], [0]])
    with pytest.raises(UsageError, match="the data has none"):
        metric_called("map").score(told, np.array([0, 1]), SPEC)
    with pytest.raises(UsageError, match="no objects"):
        metric_called("map").score(told, [{"boxes": [], "labels": []}] * 2, SPEC)
