import errno
import gc
import json
import tracemalloc

import numpy as np
import pytest

from pipcook_deploy.data import writer
from pipcook_deploy.data.division import cut, even_order
from pipcook_deploy.data.prepared import PreparedData
from pipcook_deploy.errors import OutputError, UsageError
from tests.data.made import pictures, prepared, rows_of, tabular, write_pictures


def _numbers(path, count, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    np.savez(
        path, x=rng.random((count, 3)).astype(np.float32), label=rng.integers(0, classes, count)
    )
    return path


def test_splits_are_disjoint_and_every_sample_is_in_one(tmp_path):
    evaluation = _numbers(tmp_path / "e.npz", 200)
    train = _numbers(tmp_path / "t.npz", 300, seed=1)
    data = prepared(
        tabular(), tmp_path / "out", evaluation=evaluation, train=train, calibration_samples=40
    )
    rows = rows_of(data)
    assert {name: len(found) for name, found in rows.items()} == {
        "train": 260, "calibration": 40, "selection": 100, "verdict": 100,
    }  # fmt: skip
    everything = [row for found in rows.values() for row in found]
    assert len(set(everything)) == 500
    assert sorted(rows["selection"] + rows["verdict"]) == sorted(
        row.tobytes() for row in np.load(evaluation)["x"]
    )


def test_targets_stay_with_their_inputs(tmp_path):
    path = _numbers(tmp_path / "e.npz", 120)
    archive = np.load(path)
    right = {
        row.tobytes(): label for row, label in zip(archive["x"], archive["label"], strict=True)
    }
    data = prepared(tabular(), tmp_path / "out", evaluation=path)
    for split in data.splits.values():
        for row, label in zip(split.inputs()["x"], split.targets(), strict=True):
            assert right[np.array(row).tobytes()] == label


def test_calibration_is_taken_out_of_the_evaluation_set_when_there_is_no_other(tmp_path):
    data = prepared(tabular(), tmp_path / "out", evaluation=_numbers(tmp_path / "e.npz", 100))
    assert {name: split.count for name, split in data.splits.items()} == {
        "calibration": 25, "selection": 38, "verdict": 37,
    }  # fmt: skip
    assert any("calibration is taken out of the evaluation data" in note for note in data.notes)
    assert any("200 were wanted" in note for note in data.notes)


def test_a_calibration_set_of_its_own_needs_no_labels(tmp_path):
    np.save(tmp_path / "c.npy", np.random.default_rng(5).random((30, 3)).astype(np.float32))
    data = prepared(
        tabular(),
        tmp_path / "out",
        evaluation=_numbers(tmp_path / "e.npz", 40),
        calibration=tmp_path / "c.npy",
        calibration_samples=20,
    )
    assert data.splits["calibration"].count == 20
    assert data.splits["calibration"].targets() is None
    assert data.splits["selection"].count == 20


def test_the_evaluation_limit_is_kept_and_every_class_divided_evenly(tmp_path):
    rng = np.random.default_rng(0)
    label = np.sort(rng.permutation(np.repeat([0, 1, 2], [600, 300, 100])))
    np.savez(tmp_path / "e.npz", x=rng.random((1000, 3)).astype(np.float32), label=label)
    data = prepared(
        tabular(), tmp_path / "out", evaluation=tmp_path / "e.npz", limit=200, selection=0.25
    )
    assert data.splits["selection"].count == 50
    assert data.splits["verdict"].count == 150
    for split, count in ((data.splits["selection"], 50), (data.splits["verdict"], 150)):
        found = np.bincount(split.targets(), minlength=3)
        assert np.abs(found - count * np.array([0.6, 0.3, 0.1])).max() <= 2


@pytest.mark.parametrize("seed", range(5))
def test_every_stretch_of_the_order_has_its_share_of_every_class(seed):
    rng = np.random.default_rng(seed)
    classes = rng.choice(4, 500, p=[0.7, 0.2, 0.08, 0.02])
    order = even_order(classes, 500, seed)
    assert sorted(order.tolist()) == list(range(500))
    for part in cut(order, {"a": 100, "b": 150, "c": 250}).values():
        share = np.bincount(classes, minlength=4) * len(part) / 500
        assert np.abs(np.bincount(classes[part], minlength=4) - share).max() <= 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    path = _numbers(tmp_path / "e.npz", 60)
    runs = [
        prepared(tabular(), tmp_path / name, evaluation=path, seed=seed)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    assert runs[0].sha256 == runs[1].sha256 != runs[2].sha256
    files = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in "ab"
    ]
    assert files[0] == files[1]


def test_preparing_again_into_the_same_folder_replaces_what_is_there(tmp_path):
    first = prepared(tabular(), tmp_path / "out", evaluation=_numbers(tmp_path / "e.npz", 60))
    (tmp_path / "out" / "kept.txt").write_text("not ours")
    second = prepared(tabular(), tmp_path / "out", evaluation=tmp_path / "e.npz")
    assert first.sha256 == second.sha256
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "calibration", "kept.txt", "selection", "verdict",
    ]  # fmt: skip


def test_what_is_prepared_survives_as_json(tmp_path):
    data = prepared(tabular(), tmp_path / "out", evaluation=_numbers(tmp_path / "e.npz", 60))
    again = PreparedData.from_json(json.loads(json.dumps(data.to_json())))
    assert again == data


def test_train_samples_that_are_in_the_evaluation_set_are_counted_and_left_out(tmp_path):
    _numbers(tmp_path / "e.npz", 60)
    leaked = np.load(tmp_path / "e.npz")
    other = np.load(_numbers(tmp_path / "t.npz", 100, seed=1))
    np.savez(
        tmp_path / "t.npz",
        x=np.concatenate([other["x"], leaked["x"][:7]]),
        label=np.concatenate([other["label"], leaked["label"][:7]]),
    )
    data = prepared(
        tabular(), tmp_path / "out",
        evaluation=tmp_path / "e.npz", train=tmp_path / "t.npz", calibration_samples=10,
    )  # fmt: skip
    assert data.splits["train"].count + data.splits["calibration"].count == 100
    assert any(
        "7 samples of the train data are in another split too" in line for line in data.notes
    )
    rows = rows_of(data)
    assert not set(rows["train"]) & (set(rows["selection"]) | set(rows["verdict"]))


def test_samples_that_are_equal_are_never_divided_between_two_splits(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "e.npz",
        x=rng.integers(0, 3, (300, 3)).astype(np.float32),  # 27 different rows
        label=rng.integers(0, 3, 300),
    )
    data = prepared(tabular(), tmp_path / "out", evaluation=tmp_path / "e.npz")
    sets = [set(found) for found in rows_of(data).values()]
    assert sum(map(len, sets)) == len(set().union(*sets))
    assert sum(split.count for split in data.splits.values()) == 300
    assert min(len(one) for one in sets) >= 3


def test_the_same_data_for_training_and_evaluation_is_refused(tmp_path):
    path = _numbers(tmp_path / "e.npz", 60)
    for other in ("train", "calibration"):
        with pytest.raises(UsageError, match=f"{other} and evaluation are the same data"):
            prepared(tabular(), tmp_path / "out", evaluation=path, **{other: path})


def test_a_copy_of_the_evaluation_set_leaves_nothing_to_train_with(tmp_path):
    _numbers(tmp_path / "e.npz", 60)
    _numbers(tmp_path / "t.npz", 60)
    with pytest.raises(UsageError, match="no sample is left for calibration: 60 are in another"):
        prepared(
            tabular(),
            tmp_path / "out",
            evaluation=tmp_path / "e.npz",
            train=tmp_path / "t.npz",
            bad_limit=0,
        )


@pytest.mark.parametrize("name", ["calibration", "selection", "verdict"])
def test_bad_pictures_are_counted_named_and_left_out(tmp_path, name):
    folder = write_pictures(tmp_path / "pictures")
    (folder / "cat" / "003.png").write_bytes((folder / "cat" / "003.png").read_bytes()[:60])
    (folder / "dog" / "note.jpg").write_text("not a picture")
    data = prepared(pictures(), tmp_path / "out", evaluation=folder, bad_limit=0.1)
    assert sum(split.count for split in data.splits.values()) == 35
    assert sorted(line.split(": ")[0] for line in data.bad) == [
        "pictures/cat/003.png", "pictures/dog/note.jpg",
    ]  # fmt: skip
    assert any("damaged or truncated" in line for line in data.bad)
    assert any("left out, bad: 2" in line for line in data.describe())
    split = data.splits[name]
    assert len(split.origins()) == split.count == len(split.targets())


def test_more_bad_pictures_than_allowed_are_an_error_that_names_them(tmp_path):
    folder = write_pictures(tmp_path / "pictures")
    for number in range(3):
        (folder / "owl" / f"{number:03d}.png").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        prepared(pictures(), tmp_path / "out", evaluation=folder, bad_limit=0.06)
    assert "3 so far, 2 are allowed" in caught.value.message
    assert "pictures/owl/00" in caught.value.message
    assert "bad_limit" in caught.value.hint


def test_a_large_set_never_lies_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    count, width = 6000, 2000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (count, width))
    for start in range(0, count, 500):
        x[start : start + 500] = rng.random((500, width), np.float32)
    del x
    np.save(tmp_path / "y.npy", rng.integers(0, 3, count))
    size = (tmp_path / "x.npy").stat().st_size
    gc.collect()
    tracemalloc.start()
    try:
        data = prepared(
            tabular(width),
            tmp_path / "out",
            evaluation=tmp_path / "x.npy",
            evaluation_labels=tmp_path / "y.npy",
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(split.count for split in data.splits.values()) == count
    assert size > 40e6
    assert peak < size / 10


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    path = _numbers(tmp_path / "e.npz", 60)

    def full(self, row):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer.GrowingArray, "append", full)
    with pytest.raises(OutputError, match="cannot be written: No space left"):
        prepared(tabular(), tmp_path / "out", evaluation=path)


def test_progress_ends_at_the_total(tmp_path):
    from pipcook_deploy.data.options import DataOptions
    from pipcook_deploy.data.prepare import prepare_data

    told = []
    prepare_data(
        tabular(),
        DataOptions(evaluation=_numbers(tmp_path / "e.npz", 60)),
        tmp_path / "out",
        None,
        lambda *state: told.append(state),
    )
    assert told[0] == ("open evaluation", 0, None)
    assert told[-1][1:] == (60, 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "evaluation is missing"),
        ({"evaluation": "nowhere.npz"}, "nowhere.npz does not exist"),
        ({"evaluation": "one.npz"}, "1 samples cannot be divided"),
        ({"evaluation": "none.npz"}, "there are no samples"),
        ({"evaluation": "bare.npy"}, "nothing says what is right"),
        ({"evaluation": "high.npz"}, r"the label 3 is not the position of a class, 0 to 2"),
        ({"evaluation": "text.bin"}, "is not data that can be read"),
        ({"evaluation": "e.npz", "train": "bare.npy"}, r"\[data\] train: .*nothing says"),
        ({"evaluation": "e.npz", "evaluation_labels": "bare.npy"}, "is not .npy or idx|30"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path, options, message):
    np.savez(tmp_path / "one.npz", x=np.zeros((1, 3), np.float32), label=[0])
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3), np.float32), label=np.zeros(0, int))
    np.save(tmp_path / "bare.npy", np.random.default_rng(0).random((30, 3)).astype(np.float32))
    np.savez(tmp_path / "high.npz", x=np.zeros((40, 3), np.float32), label=np.arange(40) % 4)
    (tmp_path / "text.bin").write_text("words")
    _numbers(tmp_path / "e.npz", 40)
    with pytest.raises(UsageError, match=message):
        prepared(
            tabular(), tmp_path / "out", **{key: tmp_path / name for key, name in options.items()}
        )


def test_a_class_that_a_split_lacks_is_said(tmp_path):
    np.savez(
        tmp_path / "e.npz",
        x=np.random.default_rng(0).random((40, 3)).astype(np.float32),
        label=np.arange(40) % 2,
    )
    data = prepared(
        tabular(labels=("a", "b", "c")), tmp_path / "out", evaluation=tmp_path / "e.npz"
    )
    assert "verdict has no sample of 1 classes: c" in data.notes
