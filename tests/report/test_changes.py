"""Classes before and after, and samples whose answer changed."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.data.split import Split
from pipcook_deploy.report.classes import class_table
from pipcook_deploy.report.entries import FlipCounts
from pipcook_deploy.report.flips import LONGEST_TEXT, count_flips, find_flips
from pipcook_deploy.report.pictures import value_range
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.tensors import save_tensors

SPEC = ModelSpec.model_validate(
    {
        "task": "image-classification",
        "labels": ["cat", "dog", "owl"],
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 12, 16, 3]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 3]}],
    }
)
TRUTH = [0, 0, 1, 1, 2, 2]
BEFORE = {
    "y": np.float32(
        [[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0.7, 0.3, 0], [0.1, 0.8, 0.1], [0, 0.1, 0.9]]
    )
}
#                          right              right             right            wrong            wrong          right
AFTER = {
    "y": np.float32(
        [[0.9, 0.1, 0], [0.4, 0.6, 0], [0.9, 0.1, 0], [0.3, 0.7, 0], [0.8, 0.1, 0.1], [0, 0.1, 0.9]]
    )
}
#                         same               lost             lost, more         mended      wrong, other         same


def split(folder, inputs, targets=TRUTH, origins=None):
    count = len(next(iter(inputs.values())))
    save_tensors(folder / "inputs", inputs)
    if targets is not None:
        np.save(folder / "targets.npy", np.array(targets))
    names = origins or [f"row {i}" for i in range(count)]
    (folder / "origins.json").write_text(json.dumps(names))
    return Split("verdict", folder, count, "0" * 64)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3)).astype(np.float32)


@pytest.fixture
def made(tmp_path, pixels):
    return split(tmp_path, {"x": pixels})


def image(flip):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(flip.picture))))


def test_lost_answers_come_first_then_mended_ones_each_by_the_change_of_score(made):
    flips = find_flips(SPEC, made, range(6), BEFORE, AFTER, "tfjs")
    assert [(f.origin, f.before, f.after, f.truth) for f in flips] == [
        ("row 2", "dog", "cat", "dog"),
        ("row 1", "cat", "dog", "cat"),
        ("row 3", "cat", "dog", "dog"),
        ("row 4", "dog", "cat", "owl"),
    ]
    assert (flips[0].before_score, flips[0].after_score) == pytest.approx((0.8, 0.9))
    assert {f.format for f in flips} == {"tfjs"}
    assert find_flips(SPEC, made, range(6), BEFORE, AFTER, "tfjs", most=1) == flips[:1]
    assert count_flips(SPEC, made, range(6), BEFORE, AFTER) == FlipCounts(lost=2, mended=1, other=1)


def test_rows_say_which_samples_the_answers_are_of(made, pixels):
    some = [2, 5]
    flips = find_flips(SPEC, made, some, {"y": BEFORE["y"][some]}, {"y": AFTER["y"][some]}, "onnx")
    assert [f.origin for f in flips] == ["row 2"]
    assert (image(flips[0]) == pixels[2]).all()


def test_without_what_is_right_all_that_changed_is_shown(tmp_path, pixels):
    part = split(tmp_path, {"x": pixels}, targets=None)
    flips = find_flips(SPEC, part, range(6), BEFORE, AFTER, "tfjs")
    assert [f.truth for f in flips] == [None] * 4
    assert count_flips(SPEC, part, range(6), BEFORE, AFTER).other == 4


def test_logits_are_shown_as_probabilities(made):
    logits = [{"y": np.log(part["y"] + 1e-6) + 5} for part in (BEFORE, AFTER)]
    flips = find_flips(SPEC, made, range(6), *logits, "tfjs")
    assert [f.origin for f in flips] == ["row 2", "row 1", "row 3", "row 4"]
    assert flips[0].before_score == pytest.approx(0.8, abs=1e-3)


def test_one_score_is_two_classes(tmp_path):
    spec = SPEC.with_changes(labels=("ham", "spam"))
    part = split(tmp_path, {"x": np.zeros((2, 12, 16, 3), np.float32)}, targets=[0, 1])
    before, after = ({"y": np.float32(column).reshape(2, 1)} for column in ([0.4, 0.9], [0.7, 0.9]))
    (flip,) = find_flips(spec, part, range(2), before, after, "tflite")
    assert (flip.before, flip.after) == ("ham", "spam")
    assert (flip.before_score, flip.after_score) == pytest.approx((0.6, 0.7))


def test_an_answer_that_is_no_number_is_a_lost_one(made):
    broken = {"y": BEFORE["y"].copy()}
    broken["y"][0] = np.nan
    (flip,) = find_flips(SPEC, made, range(6), BEFORE, broken, "onnx")
    assert (flip.before, flip.after, flip.after_score) == ("cat", "not a number", None)
    assert class_table(SPEC, np.array(TRUTH), BEFORE, {"onnx": broken})[0].after == {"onnx": 0.5}


@pytest.mark.parametrize("task", ["object-detection", "image-to-image"])
def test_what_does_not_classify_has_no_flips(made, task):
    spec = SPEC.with_changes(task=task)
    assert find_flips(spec, made, range(6), BEFORE, AFTER, "tfjs") == ()
    assert class_table(spec, np.array(TRUTH), BEFORE, {"tfjs": AFTER}) == ()


def test_numbers_as_targets_are_no_classes(tmp_path, pixels):
    part = split(tmp_path, {"x": pixels}, targets=[0.5] * 6)
    spec = SPEC.with_changes(task="tensor", labels=())
    assert find_flips(spec, part, range(6), BEFORE, AFTER, "tfjs") == ()


def test_a_class_table_has_the_recall_of_each_class_with_samples():
    rows = class_table(SPEC, np.array(TRUTH), BEFORE, {"tfjs": AFTER, "onnx": BEFORE})
    assert [(row.label, row.samples, row.before, row.after) for row in rows] == [
        ("cat", 2, 1.0, {"tfjs": 0.5, "onnx": 1.0}),
        ("dog", 2, 0.5, {"tfjs": 0.5, "onnx": 0.5}),
        ("owl", 2, 0.5, {"tfjs": 0.5, "onnx": 0.5}),
    ]
    assert [
        row.label for row in class_table(SPEC, [1] * 6, BEFORE, {})
    ] == []  # a list is of objects
    assert [row.label for row in class_table(SPEC, np.array([1] * 6), BEFORE, {})] == ["dog"]


# ---- pictures


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [(0, 1, 0, 1), (-1, 1, -1, 1), (0, 255, 0, 255), (3, 200, 0, 255), (-2.1, 2.6, -2.1, 2.6)],
)
def test_ranges_that_are_known_are_told_and_others_stretched(low, high, black, white):
    assert value_range(np.float32([low, high, np.nan])) == pytest.approx((black, white))
    assert value_range(np.uint8([3, 4])) == (0, 255)


def test_channels_may_come_first_and_be_one(tmp_path):
    grey = np.zeros((6, 1, 12, 16), np.float32)
    grey[2, 0, 0, 1] = 1
    part = split(tmp_path, {"x": grey})
    flip = find_flips(SPEC, part, range(6), BEFORE, AFTER, "tfjs")[0]
    assert image(flip).shape == (12, 16)
    assert image(flip)[0, 1] == 255 and image(flip)[1, 0] == 0


def test_an_image_file_is_preferred_and_made_small(tmp_path, pixels):
    file = tmp_path / "photos" / "owl.jpg"
    file.parent.mkdir()
    Image.new("RGB", (400, 200), (200, 10, 10)).save(file)
    broken = file.with_name("broken.png")
    broken.write_bytes(b"no image")
    part = split(tmp_path / "split", {"x": pixels}, origins=["a", str(broken), str(file), *"bcd"])
    first, second, *_ = find_flips(SPEC, part, range(6), BEFORE, AFTER, "tfjs")
    assert image(first).shape == (48, 96, 3)
    assert first.origin == "photos/owl.jpg"  # no path of this machine
    assert (image(second) == pixels[1]).all()  # of the tensor: the file is none


def test_tables_have_no_pictures(tmp_path):
    part = split(tmp_path, {"x": np.zeros((6, 5), np.float32)})
    assert {f.picture for f in find_flips(SPEC, part, range(6), BEFORE, AFTER, "tfjs")} == {None}


def test_texts_are_excerpts(tmp_path):
    words = np.array([[f"mail {i}\n\t" + "word " * 200] for i in range(6)], dtype=object)
    part = split(tmp_path, {"x": words})
    flip = find_flips(SPEC, part, range(6), BEFORE, AFTER, "tfjs")[0]
    assert flip.text.startswith("mail 2 word word") and len(flip.text) == LONGEST_TEXT
    told = find_flips(SPEC, part, range(6), BEFORE, AFTER, "tfjs", texts=lambda row: f"told {row}")
    assert [f.text for f in told] == ["told 2", "told 1", "told 3", "told 4"]


def test_the_same_data_gives_the_same_flips(made):
    runs = [find_flips(SPEC, made, range(6), BEFORE, AFTER, "tfjs") for _ in range(2)]
    assert runs[0] == runs[1] and all(f.picture for f in runs[0])
