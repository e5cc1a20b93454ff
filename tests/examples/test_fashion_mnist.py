"""The committed example is what its README says."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion-mnist"


def module(name: str):
    specification = importlib.util.spec_from_file_location(
        f"example_{name}", EXAMPLE / f"{name}.py"
    )
    assert specification and specification.loader
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


def test_there_are_20_samples_of_each_category():
    categories = json.loads((EXAMPLE / "workspace/model/categories.json").read_text())
    folders = {
        folder.name: len(list(folder.glob("*.png"))) for folder in (EXAMPLE / "samples").iterdir()
    }
    assert folders == dict.fromkeys(categories, 20)


def test_the_pipeline_is_in_the_workspace_and_in_its_model_folder():
    inner = json.loads((EXAMPLE / "workspace/model/pipeline.json").read_text())
    outer = json.loads((EXAMPLE / "workspace/fashion-mnist.json").read_text())
    assert inner == outer
    assert inner["specVersion"] == "2.0"


def test_the_recipe_tells_the_measured_accuracy():
    import tomllib

    recipe = tomllib.loads((EXAMPLE / "deploy.toml").read_text())
    measured = json.loads((EXAMPLE / "metrics.json").read_text())
    assert recipe["model"]["metrics"] == measured
    assert measured["accuracy"] >= 0.9
    assert measured["images"] == 10000


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_gzipped_or_not(tmp_path: Path, suffix: str):
    import gzip

    dataset = module("dataset")
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    pack = gzip.compress if suffix else bytes
    for name, values in (("images-idx3", images), ("labels-idx1", np.array([3, 9], np.uint8))):
        head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
        (tmp_path / f"t10k-{name}-ubyte{suffix}").write_bytes(pack(head + values.tobytes()))
    read, labels = dataset.load("t10k", tmp_path)
    np.testing.assert_array_equal(read, images)
    assert labels.tolist() == [3, 9]
    assert dataset.as_rgb(read).shape == (2, 28, 28, 3)


def test_absent_data_says_what_to_do(tmp_path: Path):
    with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
        module("dataset").load("train", tmp_path)


def test_a_truncated_idx_file_is_refused(tmp_path: Path):
    path = tmp_path / "labels"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]))
    with pytest.raises(SystemExit, match="2 values where"):
        module("dataset").read_idx(path)
