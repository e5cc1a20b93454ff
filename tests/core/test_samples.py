import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.api import with_changes
from pipcook_deploy.errors import UsageError
from pipcook_deploy.model import Model
from pipcook_deploy.samples import SampleOptions, make_samples
from pipcook_deploy.spec import ModelSpec, TensorSpec

IMAGE_SPEC = ModelSpec(
    task="image-classification",
    inputs=(TensorSpec(name="image", dtype="float32", shape=(None, 8, 8, 3)),),
    labels=("cat", "dog/wolf"),
    preprocessing={
        "image": ({"op": "decode"}, {"op": "resize", "height": 8, "width": 8, "round": False}),
    },
)


def _spec(dtype, shape):
    return ModelSpec(inputs=(TensorSpec(name="x", dtype=dtype, shape=shape),))


def _image(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", (None, 3)),
        ("int32", (None, 5)),
        ("uint8", (None, 4, 4, 3)),
        ("bool", (None, 2)),
        ("int64", (None, None)),
        ("float16", (None, 4, 4, 1)),
        ("string", (None,)),
    ],
)
def test_random_samples_fit_the_spec(dtype, shape):
    samples = make_samples(_spec(dtype, shape), SampleOptions(count=3))
    value = samples.inputs["x"]
    assert value.dtype == (object if dtype == "string" else dtype)
    assert len(value) == 3
    assert all(want in (None, got) for want, got in zip(shape[1:], value.shape[1:], strict=True))


def test_a_seed_gives_the_same_samples_and_another_gives_others():
    def made(seed):
        return make_samples(IMAGE_SPEC, SampleOptions(count=2, seed=seed)).inputs["image"]

    assert np.array_equal(made(1), made(1))
    assert not np.array_equal(made(1), made(2))


def test_random_images_come_as_files_and_as_tensors_of_the_same_picture():
    from pipcook_deploy.preprocess.execute import prepare_batch

    samples = make_samples(IMAGE_SPEC, SampleOptions(count=2))
    files = [content for _, content in samples.encoded]
    assert Image.open(io.BytesIO(files[0])).format == "PNG"
    again = prepare_batch(IMAGE_SPEC.preprocessing["image"], files)
    assert np.array_equal(samples.inputs["image"], again)


def test_a_folder_by_class_gives_labels_by_the_spec(tmp_path):
    _image(tmp_path / "cat" / "a.png", "red")
    _image(tmp_path / "dog_wolf" / "b.png", "blue")
    samples = make_samples(IMAGE_SPEC, SampleOptions(path=tmp_path, count=1))
    red = samples.inputs["image"][:, 0, 0, 0] > 200
    assert [label == 0 for label in samples.labels] == red.tolist()
    assert (len(samples), samples.golden, len(samples.encoded)) == (2, 1, 1)


def test_a_class_that_the_model_does_not_know_is_named(tmp_path):
    _image(tmp_path / "cats" / "a.png", "red")
    with pytest.raises(UsageError, match=r"cats: is not one of .*did you mean 'cat'"):
        make_samples(IMAGE_SPEC, SampleOptions(path=tmp_path))


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UsageError, match=r"a\.png"):
        make_samples(IMAGE_SPEC, SampleOptions(path=tmp_path))


def test_images_without_preprocessing_say_what_is_missing(tmp_path):
    _image(tmp_path / "a.png", "red")
    with pytest.raises(UsageError) as caught:
        make_samples(_spec("float32", (None, 8, 8, 3)), SampleOptions(path=tmp_path))
    assert "[[model.preprocessing]]" in caught.value.hint


def test_arrays_are_taken_by_name(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((4, 3)), labels=np.arange(4))
    samples = make_samples(_spec("float32", (None, 3)), SampleOptions(path=tmp_path / "d.npz"))
    assert samples.inputs["x"].dtype == np.float32
    assert samples.labels == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.ones((4, 3))}, "no array called 'x'"),
        ({"x": np.ones((4, 5))}, r"is \[4, 5\], the model takes \[None, 3\]"),
        ({"x": np.ones((0, 3))}, r"arrays of \[0\] samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        make_samples(_spec("float32", (None, 3)), SampleOptions(path=tmp_path / "d.npz"))


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="allow_pickle"):
        make_samples(_spec("float32", (None, 3)), SampleOptions(path=tmp_path / "d.npy"))


def test_preprocessing_that_does_not_lead_to_the_input_is_refused():
    wrong = IMAGE_SPEC.with_changes(
        preprocessing={"image": [{"op": "decode"}, {"op": "resize", "height": 9, "width": 8}]}
    )
    with pytest.raises(UsageError, match=r"gives \[9, 8, 3\].* takes \[8, 8, 3\]"):
        make_samples(wrong, SampleOptions(count=1))


def test_ids_stay_below_the_vocabulary_whatever_the_declared_type():
    samples = make_samples(_spec("float32", (None, 40)), SampleOptions(count=20), {"x": 3})
    value = samples.inputs["x"]
    assert value.dtype == np.float32
    assert set(np.unique(value)) == {0.0, 1.0, 2.0}


def test_what_only_looks_like_an_image_is_passed_over(tmp_path):
    _image(tmp_path / "cat" / "a.png", "red")
    (tmp_path / "cat" / "folder.png").mkdir()
    (tmp_path / "cat" / "._a.png").write_bytes(b"Mac OS X")
    (tmp_path / "cat" / "loop.png").symlink_to("loop.png")
    (tmp_path / "cat" / "again").symlink_to("..")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert len(make_samples(IMAGE_SPEC, SampleOptions(path=tmp_path))) == 1


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\x00", b"garbage"])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_damaged_arrays_are_refused(tmp_path, data, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        make_samples(_spec("float32", (None, 2)), SampleOptions(path=path))


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.array([["a", "b"]])},
        {"x": np.ones((1, 2)), "labels": np.array(["a"])},
        {"x": np.ones((1, 2)), "labels": np.array([[1]])},
        {"x": np.ones((2, 2)), "labels": np.array([1])},
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UsageError):
        make_samples(_spec("float32", (None, 2)), SampleOptions(path=tmp_path / "x.npz"))


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "\x1b[31m", "x" * 101])
def test_a_name_that_fits_no_path_is_refused(name):
    model = Model(Path("m"), "onnx", _spec("float32", (None, 2)))
    for key in ("name", "version"):
        with pytest.raises(UsageError, match=key):
            with_changes(model, {key: name})
    assert with_changes(model, {"name": "größe 😀"}).spec.name == "größe 😀"
