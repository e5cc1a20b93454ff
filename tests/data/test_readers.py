import gzip
import io

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.errors import UsageError
from pipcook_deploy.preprocess.execute import prepare
from pipcook_deploy.spec import ModelSpec, TensorSpec
from tests.data.made import (
    LABELS,
    pictures,
    prepared,
    tabular,
    texts,
    write_idx,
    write_pictures,
)


def _all(data, name="x"):
    """Inputs by origin, and targets by origin."""
    inputs, targets = {}, {}
    for split in data.splits.values():
        rows = split.inputs()[name]
        right = split.targets()
        for number, origin in enumerate(split.origins()):
            inputs[origin] = rows[number]
            targets[origin] = None if right is None else right[number]
    return inputs, targets


def _png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


# ---- folders of pictures


def test_a_folder_of_pictures_is_prepared_as_the_server_does(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=4)
    spec = pictures()
    inputs, targets = _all(prepared(spec, tmp_path / "out", evaluation=folder))
    assert len(inputs) == 12
    for path in folder.rglob("*.png"):
        origin = path.relative_to(tmp_path).as_posix()
        expected = prepare(spec.preprocessing["x"], path.read_bytes())
        np.testing.assert_array_equal(inputs[origin], expected)
        assert targets[origin] == LABELS.index(path.parent.name)


def test_a_folder_that_is_no_label_is_named_with_what_is_near(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=2, classes=("cat", "dogs", "owl"))
    with pytest.raises(UsageError, match=r"'dogs' is not one of the model's labels.*'dog'"):
        prepared(pictures(), tmp_path / "out", evaluation=folder)


def test_a_class_without_pictures_is_named(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=2)
    for path in (folder / "owl").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="owl: the class has no pictures"):
        prepared(pictures(), tmp_path / "out", evaluation=folder)


def test_pictures_outside_folders_are_no_evaluation_but_a_calibration(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=4)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(3):
        (flat / f"{number}.png").write_bytes(_png(np.full((9, 9, 3), number, np.uint8)))
    with pytest.raises(UsageError, match="not in folders of classes"):
        prepared(pictures(), tmp_path / "out", evaluation=flat)
    data = prepared(pictures(), tmp_path / "out", evaluation=folder, calibration=flat)
    assert data.splits["calibration"].count == 3


def test_without_labels_folders_are_classes_by_name(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=3, classes=("b", "a", "c"))
    data = prepared(pictures(labels=()), tmp_path / "out", evaluation=folder)
    _, targets = _all(data)
    assert targets["pictures/b/000.png"] == 1
    assert any("classes are a, b, c, by name" in note for note in data.notes)


def test_pictures_for_a_model_of_numbers_are_refused(tmp_path):
    folder = write_pictures(tmp_path / "pictures", each=2)
    with pytest.raises(UsageError, match="whose preprocessing starts with decode"):
        prepared(tabular(labels=LABELS), tmp_path / "out", evaluation=folder)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pipcook_folder_serves_every_role_with_its_part(tmp_path, wrapped):
    root = tmp_path / "dataset"
    inner = root / "shop" if wrapped else root
    write_pictures(inner / "train", each=8, seed=1)
    write_pictures(inner / "test", each=4, seed=2)
    data = prepared(
        pictures(), tmp_path / "out", evaluation=root, train=root, calibration_samples=3
    )
    assert {name: split.count for name, split in data.splits.items()} == {
        "train": 21, "calibration": 3, "selection": 6, "verdict": 6,
    }  # fmt: skip
    assert all(origin.startswith("test/") for origin in data.splits["verdict"].origins())
    assert all(origin.startswith("train/") for origin in data.splits["train"].origins())


def test_a_pipcook_folder_without_the_part_is_told(tmp_path):
    write_pictures(tmp_path / "dataset" / "train", each=2)
    with pytest.raises(UsageError, match="has train, but not test or validation"):
        prepared(pictures(), tmp_path / "out", evaluation=tmp_path / "dataset")


# ---- arrays


def test_idx_is_prepared_as_the_same_pictures_as_png_would_be(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 7), dtype=np.uint8)
    labels = np.arange(20) % 3
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", images, packed=True)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels)
    for channels in ("rgb", "grey"):
        spec = pictures(channels=channels)
        data = prepared(spec, tmp_path / "out", evaluation=tmp_path / "t10k-images-idx3-ubyte.gz")
        inputs, targets = _all(data)
        for number in range(20):
            origin = f"t10k-images-idx3-ubyte.gz[{number}]"
            expected = prepare(spec.preprocessing["x"], _png(images[number]))
            np.testing.assert_array_equal(inputs[origin], expected)
            assert targets[origin] == labels[number]
    assert any("found beside" in note for note in data.notes)


def test_idx_with_colours_and_labels_of_another_name(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    data = prepared(
        pictures(),
        tmp_path / "out",
        evaluation=write_idx(tmp_path / "a", images),
        evaluation_labels=write_idx(tmp_path / "b", np.arange(12) % 3),
    )
    inputs, _ = _all(data)
    np.testing.assert_array_equal(inputs["a[3]"], (images[3] * (1 / 255)).astype(np.float32))


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_idx_is_told(tmp_path, packed):
    path = write_idx(tmp_path / "a", np.zeros((12, 8, 8)), packed)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UsageError, match=r"a: cannot be read: "):
        prepared(
            pictures(),
            tmp_path / "out",
            evaluation=path,
            evaluation_labels=write_idx(tmp_path / "b", np.arange(12) % 3),
        )


def test_something_else_packed_is_told(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"words and words"))
    with pytest.raises(UsageError, match="what is packed is not idx"):
        prepared(pictures(), tmp_path / "out", evaluation=tmp_path / "a.gz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("x", "label"), ("images", "y"), ("x", "kind")])
def test_npz_by_the_models_names_or_by_what_is_left(tmp_path, save, names):
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 3)).astype(np.float32), rng.integers(0, 3, 30)
    save(tmp_path / "e.npz", **dict(zip(names, (x, y), strict=True)))
    inputs, targets = _all(prepared(tabular(), tmp_path / "out", evaluation=tmp_path / "e.npz"))
    np.testing.assert_array_equal(inputs["e.npz[5]"], x[5])
    assert targets["e.npz[5]"] == y[5]


def test_labels_of_an_npz_may_be_names_positions_or_one_hot(tmp_path):
    x = np.random.default_rng(0).random((30, 3)).astype(np.float32)
    places = np.arange(30) % 3
    hashes = set()
    for label in (places, places[:, None], np.eye(3)[places].astype(int), np.array(LABELS)[places]):
        np.savez(tmp_path / "e.npz", x=x, label=label)
        data = prepared(tabular(labels=LABELS), tmp_path / "out", evaluation=tmp_path / "e.npz")
        hashes.add(data.sha256)
    assert len(hashes) == 1


def test_a_label_that_does_not_exist_is_named_with_what_is_near(tmp_path):
    np.savez(tmp_path / "e.npz", x=np.zeros((2, 3), np.float32), label=np.array(["cat", "owll"]))
    with pytest.raises(UsageError, match=r"'owll' is not one of the model's labels.*'owl'"):
        prepared(tabular(labels=LABELS), tmp_path / "out", evaluation=tmp_path / "e.npz")


def test_numbers_to_answer_are_kept_as_numbers(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 3)).astype(np.float32), rng.random((30, 2))
    np.savez(tmp_path / "e.npz", x=x, y=y)
    data = prepared(tabular(classes=2), tmp_path / "out", evaluation=tmp_path / "e.npz")
    _, targets = _all(data)
    np.testing.assert_allclose(targets["e.npz[7]"], y[7], rtol=1e-6)
    assert data.splits["verdict"].targets().dtype == np.float32


def test_a_model_with_several_inputs_reads_an_npz(tmp_path):
    spec = ModelSpec(
        inputs=(
            TensorSpec(name="a", dtype="float32", shape=(None, 2)),
            TensorSpec(name="b", dtype="int32", shape=(None, 1)),
        ),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 3)),),
    )
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "e.npz", a=rng.random((20, 2)), b=np.arange(20), label=rng.integers(0, 3, 20)
    )
    data = prepared(spec, tmp_path / "out", evaluation=tmp_path / "e.npz")
    inputs = data.splits["verdict"].inputs()
    assert inputs["a"].dtype == np.float32
    assert inputs["b"].shape == (data.splits["verdict"].count, 1)


def test_rows_of_another_shape_are_bad_and_too_many_to_go_on(tmp_path):
    np.savez(tmp_path / "e.npz", x=np.zeros((20, 4), np.float32), label=np.zeros(20, int))
    with pytest.raises(UsageError, match=r"is \[4\], the input 'x' takes \[3\]"):
        prepared(tabular(), tmp_path / "out", evaluation=tmp_path / "e.npz")


def test_pickled_arrays_are_not_opened(tmp_path):
    np.save(tmp_path / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match=r"e\.npy: cannot be read"):
        prepared(tabular(), tmp_path / "out", evaluation=tmp_path / "e.npy")


# ---- CSV


def test_a_csv_of_numbers(tmp_path):
    rows = [f"{n},{n / 2},{-n},{LABELS[n % 3]}" for n in range(30)]
    (tmp_path / "e.csv").write_text("\ufeffa,b,c,label\n" + "\n".join(rows) + "\n", "utf-8")
    inputs, targets = _all(
        prepared(tabular(labels=LABELS), tmp_path / "out", evaluation=tmp_path / "e.csv")
    )
    np.testing.assert_array_equal(inputs["e.csv: row 5"], np.array([4, 2, -4], np.float32))
    assert targets["e.csv: row 5"] == 1


def test_a_csv_goes_through_the_preprocessing_and_takes_the_columns_named(tmp_path):
    spec = tabular(2, labels=LABELS).with_changes(
        preprocessing={"x": ({"op": "normalize", "mean": (1.0,), "std": (2.0,)},)}
    )
    rows = [f"id{n};{n};{n + 1};{n % 3}" for n in range(30)]
    (tmp_path / "e.csv").write_text("id;a;b;kind\n" + "\n".join(rows))
    data = prepared(
        spec, tmp_path / "out", evaluation=tmp_path / "e.csv", label="kind", columns=("b", "a")
    )
    inputs, _ = _all(data)
    np.testing.assert_array_equal(inputs["e.csv: row 10"], np.array([4.5, 4], np.float32))


def test_a_csv_with_numbers_to_answer(tmp_path):
    rows = [f"{n},1,2,{n * 1.5}" for n in range(30)]
    (tmp_path / "e.csv").write_text("a,b,c,label\n" + "\n".join(rows))
    _, targets = _all(prepared(tabular(classes=1), tmp_path / "out", evaluation=tmp_path / "e.csv"))
    assert targets["e.csv: row 8"] == 10.5


def test_bad_rows_of_a_csv_are_counted(tmp_path):
    rows = [f"{n},1,2,cat" for n in range(40)]
    rows[3], rows[7], rows[9] = "3,,2,cat", "7,1,cat", "9,nan,1,cat"
    (tmp_path / "e.csv").write_text(
        "a,b,c,label\n" + "\n".join(rows).replace("7,1,cat", "7,1,2,cat,x")
    )
    data = prepared(
        tabular(labels=LABELS), tmp_path / "out", evaluation=tmp_path / "e.csv", bad_limit=0.1
    )
    assert sorted(data.bad) == [
        "e.csv: row 10: has a NaN or an infinity",
        "e.csv: row 4: 'b' is '', not a number",
        "e.csv: row 8: has 5 cells, the header 4",
    ]


def test_pipcooks_texts_with_quotes_and_line_ends(tmp_path):
    rows = []
    for n in range(20):
        rows += [f'"Buy, {n}\nnow ""friend""",spam', f"hello {n},ham"]
    folder = tmp_path / "dataset" / "test"
    folder.mkdir(parents=True)
    (folder / "texts.csv").write_text("input,output\n" + "\n".join(rows))
    spec = texts()
    data = prepared(spec, tmp_path / "out", evaluation=tmp_path / "dataset")
    inputs, targets = _all(data)
    expected = prepare(spec.preprocessing["x"], 'Buy, 3\nnow "friend"')
    np.testing.assert_array_equal(inputs["texts.csv: row 7"], expected)
    assert targets["texts.csv: row 7"] == 1
    assert targets["texts.csv: row 8"] == 0


def test_a_text_column_that_cannot_be_told_is_asked_for(tmp_path):
    rows = [f"hello {n},a,ham" for n in range(20)]
    (tmp_path / "e.csv").write_text("subject,body,label\n" + "\n".join(rows))
    with pytest.raises(UsageError, match="which column is the text"):
        prepared(texts(), tmp_path / "out", evaluation=tmp_path / "e.csv")
    data = prepared(texts(), tmp_path / "out", evaluation=tmp_path / "e.csv", columns=("subject",))
    assert data.splits["verdict"].count > 0
    with pytest.raises(UsageError, match=r"no column 'bodi'.*'body'"):
        prepared(texts(), tmp_path / "out", evaluation=tmp_path / "e.csv", columns=("bodi",))


def test_a_csv_without_its_label_column_says_what_there_is(tmp_path):
    (tmp_path / "e.csv").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(UsageError, match=r"no column 'label' \(found: a, b, c\)"):
        prepared(tabular(), tmp_path / "out", evaluation=tmp_path / "e.csv")


def test_a_model_that_reads_text_itself(tmp_path):
    spec = texts().with_changes(
        inputs=(TensorSpec(name="x", dtype="string", shape=(None,)),), preprocessing={}
    )
    rows = [f"grüße {n},{'ham' if n % 2 else 'spam'}" for n in range(20)]
    (tmp_path / "e.csv").write_text("text,label\n" + "\n".join(rows), "utf-8")
    inputs, _ = _all(prepared(spec, tmp_path / "out", evaluation=tmp_path / "e.csv"))
    assert inputs["e.csv: row 4"] == "grüße 3"
