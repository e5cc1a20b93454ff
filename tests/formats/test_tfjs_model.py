import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats.tfjs_model import read_model, write_model
from pipcook_deploy.formats.tfjs_weights import Weight

TOPOLOGY = {"class_name": "Sequential", "config": {"layers": []}}
VALUES = {
    "a": np.arange(7, dtype=np.float32),
    "words": np.array([b"x", b"yy"], dtype=object),
    "b": np.arange(6, dtype=np.int32).reshape(2, 3),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def write(into: Path, **options: Any) -> tuple[Path, ...]:
    weights = [Weight(name, value) for name, value in VALUES.items()]
    settings: dict[str, Any] = {"shard_size": 10, "generated_by": "test"} | options
    return write_model(
        into, model_format="tfjs_layers", topology=TOPOLOGY, weights=weights, **settings
    )


def test_weights_straddle_shards_and_come_back(folder: Path) -> None:
    model = read_model(folder / "model.json")
    assert len(model.files) == 7 and model.format == "tfjs_layers" and model.topology == TOPOLOGY
    assert list(model.weights) == list(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(model.weights[name], value)


def test_same_input_same_bytes_and_names_follow_the_content(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in "123")
    for into in (one, two, other):
        into.mkdir()
    first, second = write(one), write(two)
    third = write(other, precision=lambda name: "float16")
    assert [f.name for f in first] == [f.name for f in second]
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]
    assert {f.name for f in first[1:]}.isdisjoint(f.name for f in third[1:])


def test_several_groups_are_separate_streams(tmp_path: Path) -> None:
    for name, value in (("x.bin", 1.0), ("y.bin", 2.0)):
        (tmp_path / name).write_bytes(np.array([value], "<f4").tobytes())
    groups = [
        {"paths": [f"{n}.bin"], "weights": [{"name": n, "shape": [], "dtype": "float32"}]}
        for n in "xy"
    ]
    data = {"modelTopology": TOPOLOGY, "weightsManifest": groups}
    (tmp_path / "model.json").write_text(json.dumps(data))
    model = read_model(tmp_path / "model.json")
    assert (model.weights["x"], model.weights["y"]) == (1.0, 2.0)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "model.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def group(data: dict[str, Any]) -> dict[str, Any]:
    return data["weightsManifest"][0]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.bin",
        "a/../../secret.bin",
        "/etc/passwd",
        "https://example.org/w.bin",
        "file:///etc/passwd",
        "..\\secret.bin",
        "%2e%2e/secret.bin",
        "link.bin",
        "",
        7,
        "nothing.bin",
    ],
)
def test_shards_stay_in_the_folder(tmp_path: Path, path: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder)
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    edit(folder, lambda data: group(data)["paths"].__setitem__(0, path))
    with pytest.raises(SourceError, match="shard"):
        read_model(folder / "model.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("modelTopology"), "no modelTopology"),
        (lambda d: d.pop("weightsManifest"), "no weightsManifest"),
        (lambda d: d["weightsManifest"].append(7), "a group without"),
        (lambda d: d.update(format="onnx"), "unknown format"),
        (lambda d: d.update(format="graph-model"), "without nodes"),
        (lambda d: d.update(modelTopology={}), "without layers"),
        (lambda d: group(d)["weights"].pop(), "the weights only"),
        (lambda d: group(d)["paths"].pop(), "truncated"),
        (lambda d: group(d)["weights"][0].update(shape=[2**40, 2**40]), "truncated"),
        (lambda d: group(d)["weights"][1].update(shape=[2**62]), "truncated"),
        (lambda d: group(d)["weights"][0].update(shape=[-7]), "shape"),
        (lambda d: group(d)["weights"][0].update(shape="7"), "shape"),
        (lambda d: group(d)["weights"][0].update(dtype="float64"), "unknown dtype"),
        (lambda d: group(d)["weights"][0].update(dtype=[]), "no dtype"),
        (lambda d: group(d)["weights"][0].pop("name"), "without a name"),
        (lambda d: group(d)["weights"][0].update(name="b"), "twice"),
    ],
)
def test_damage_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(SourceError, match=message):
        read_model(folder / "model.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": NaN}', "[" * 100_000, "\xff"])
def test_invalid_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError):
        read_model(tmp_path / "model.json")


def test_a_truncated_shard_is_refused(folder: Path) -> None:
    shard = read_model(folder / "model.json").files[-1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(SourceError, match="truncated"):
        read_model(folder / "model.json")
