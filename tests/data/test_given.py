import io
import itertools

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.errors import UsageError
from pipcook_deploy.preprocess.execute import prepare
from pipcook_deploy.spec import ModelSpec, TensorSpec
from tests.data.made import LABELS, detector, pictures, prepared, tabular, texts


def _drawn(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 3)).astype(np.float32), rng.integers(0, 3, count)


def _count(data):
    return sum(split.count for split in data.splits.values())


class Dataset:
    """What of a `tf.data.Dataset` is used."""

    def __init__(self, items):
        self.items = items

    def as_numpy_iterator(self):
        return iter(self.items)

    def __iter__(self):
        raise AssertionError("a dataset is read as numpy arrays")


def test_every_form_of_the_same_samples_gives_the_same_splits(tmp_path):
    x, y = _drawn()
    forms = [
        (x, y),
        ({"x": x}, y),
        list(zip(x, y, strict=True)),
        ((row, label) for row, label in zip(x, y, strict=True)),
        [({"x": row}, label) for row, label in zip(x, y, strict=True)],
        [{"x": row, "label": label} for row, label in zip(x, y, strict=True)],
        Dataset(list(zip(x, y, strict=True))),
        Dataset([(x[:16], y[:16]), (x[16:32], y[16:32]), (x[32:], y[32:])]),
        Dataset([(x[:16], np.eye(3, dtype=int)[y[:16]]), (x[16:], np.eye(3, dtype=int)[y[16:]])]),
        [(row, label, 1.0) for row, label in zip(x, y, strict=True)],
    ]
    hashes = {prepared(tabular(), tmp_path / "out", {"evaluation": form}).sha256 for form in forms}
    assert len(hashes) == 1


def test_arrays_iterables_and_paths_go_together(tmp_path):
    np.savez(tmp_path / "t.npz", x=_drawn(seed=1)[0], label=_drawn(seed=1)[1])
    x, y = _drawn()
    data = prepared(
        tabular(),
        tmp_path / "out",
        {
            "evaluation": zip(x, y, strict=True),
            "train": str(tmp_path / "t.npz"),
            "calibration": _drawn(10, seed=2)[0],
        },
    )
    assert {name: split.count for name, split in data.splits.items()} == {
        "train": 40, "calibration": 10, "selection": 20, "verdict": 20,
    }  # fmt: skip


def test_image_bytes_and_pixels_are_prepared_and_tensors_are_not(tmp_path):
    spec = pictures()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
    encoded = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        encoded.append(buffer.getvalue())
    tensors = np.stack([prepare(spec.preprocessing["x"], content) for content in encoded])
    labels = np.arange(12) % 3
    hashes = {
        prepared(spec, tmp_path / "out", {"evaluation": form}).sha256
        for form in (
            zip(encoded, labels, strict=True),
            (pixels, labels),
            Dataset([(pixels, labels)]),
            Dataset(zip(pixels, labels, strict=True)),
            (tensors, labels),
            Dataset([(tensors, labels)]),
        )
    }
    assert len(hashes) == 1


def test_a_uint8_model_is_not_prepared_twice(tmp_path):
    spec = pictures().with_changes(
        inputs=(TensorSpec(name="x", dtype="uint8", shape=(None, 8, 8, 3)),),
        preprocessing={
            "x": (
                {"op": "decode"},
                {"op": "resize", "height": 8, "width": 8},
                {"op": "color", "to": "bgr"},
            )
        },
    )
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    data = prepared(
        spec, tmp_path / "out", {"evaluation": zip(pixels, np.arange(8) % 3, strict=True)}
    )
    split = data.splits["verdict"]
    number = int(split.origins()[0].split("[")[1][:-1])
    np.testing.assert_array_equal(split.inputs()["x"][0], pixels[number][..., ::-1])


def test_texts_and_names_of_classes(tmp_path):
    spec = texts()
    items = [(f"buy now {n}", "spam") if n % 2 else (f"hello {n}", b"ham") for n in range(20)]
    batch = Dataset([(np.array([t.encode() for t, _ in items], object), np.arange(20) % 2)])
    one = prepared(spec, tmp_path / "out", {"evaluation": items})
    assert one.sha256 == prepared(spec, tmp_path / "out", {"evaluation": batch}).sha256


def test_objects(tmp_path):
    rng = np.random.default_rng(0)
    items = [
        (
            rng.integers(0, 256, (10, 10, 3), dtype=np.uint8),
            {"boxes": np.array([[0, 0, 0.5, 0.5]]), "labels": ["owl"]},
        )
        for _ in range(8)
    ]
    data = prepared(detector(), tmp_path / "out", {"evaluation": items})
    assert data.splits["verdict"].targets()[0] == {"boxes": [[0, 0, 0.5, 0.5]], "labels": [2]}


def test_an_endless_stream_is_read_up_to_the_limit(tmp_path):
    rng = np.random.default_rng(0)

    def endless():
        for number in itertools.count():
            yield rng.random(3).astype(np.float32), number % 3

    data = prepared(
        tabular(), tmp_path / "out", {"evaluation": endless()}, limit=30, calibration_samples=10
    )
    assert data.splits["selection"].count + data.splits["verdict"].count == 30
    assert data.splits["calibration"].count == 10


def test_bad_samples_are_counted(tmp_path):
    x, y = _drawn(100)
    items = [[row, label] for row, label in zip(x, y, strict=True)]
    items = [tuple(item) for item in items]
    items[4] = (np.zeros(5, np.float32), 0)
    items[9] = (np.full(3, np.nan, np.float32), 0)
    data = prepared(tabular(), tmp_path / "out", {"evaluation": items}, bad_limit=0.02)
    assert _count(data) == 98
    assert data.bad[0] == "evaluation[4]: is [5], the input 'x' takes [3]"
    with pytest.raises(UsageError, match="too many samples cannot be used: 2"):
        prepared(tabular(), tmp_path / "out", {"evaluation": items})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "int cannot be read"),
        ([], "there are no samples"),
        ([np.zeros(3, np.float32)] * 9, "nothing says what is right"),
        ([(np.zeros(3, np.float32), "bird")] * 9, "'bird' is not one of the model's labels"),
        ([(np.zeros(3, np.float32), 7)] * 9, "the label 7 is not the position of a class"),
        ([(np.zeros(7, np.float32), 0)] * 9, "none of 9 samples can be used"),
        ([(np.zeros(3, np.float32), 0), np.zeros(3, np.float32)], "some samples have a target"),
        ((np.zeros((9, 3), np.float32), np.zeros(8, int)), "arrays of different lengths"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, value, message):
    with pytest.raises(UsageError, match=message):
        prepared(tabular(labels=LABELS), tmp_path / "out", {"evaluation": value})


def test_a_role_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UsageError, match="'test' is none of evaluation"):
        prepared(tabular(), tmp_path / "out", {"test": []})


def test_a_model_with_several_inputs_needs_names(tmp_path):
    spec = ModelSpec(
        inputs=tuple(TensorSpec(name=n, dtype="float32", shape=(None, 2)) for n in "ab"),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 2)),),
    )
    x = np.random.default_rng(0).random((20, 2)).astype(np.float32)
    with pytest.raises(UsageError, match="give dicts with a, b"):
        prepared(spec, tmp_path / "out", {"evaluation": [(row, 0) for row in x]})
    items = [({"a": row, "b": row + 1}, n % 2) for n, row in enumerate(x)]
    assert _count(prepared(spec, tmp_path / "out", {"evaluation": items})) == 20


@pytest.mark.heavy
def test_a_tensorflow_dataset(tmp_path):
    import tensorflow as tf

    x, y = _drawn()
    expected = prepared(tabular(), tmp_path / "out", {"evaluation": (x, y)}).sha256
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    with pytest.raises(UsageError, match="the dataset never ends"):
        prepared(tabular(), tmp_path / "out", {"evaluation": dataset.repeat()})
    for form in (dataset, dataset.batch(16)):
        assert prepared(tabular(), tmp_path / "out", {"evaluation": form}).sha256 == expected
