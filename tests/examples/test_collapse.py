"""The collapse example is what its README says: one function, two networks, one of them useless in int8."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.sources import load
from tests.examples.loading import EXAMPLES, example_module

HERE = EXAMPLES / "collapse"
SAMPLES = EXAMPLES / "fashion-mnist" / "samples"


@pytest.fixture(scope="module")
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """The 200 test images of the other example, as this model takes them, and their classes."""
    from PIL import Image

    labels = example_module("fashion-mnist", "dataset").LABELS
    files = sorted(SAMPLES.glob("*/*.png"))
    images = [
        np.asarray(Image.open(file).convert("L"), np.float32)[..., None] / 255 for file in files
    ]
    return np.stack(images), np.array([labels.index(file.parent.name) for file in files])


def test_the_models_are_small_enough_to_be_committed():
    for name in ("model", "plain"):
        assert (HERE / f"{name}.keras").stat().st_size < 200_000


def test_the_readme_tells_the_measured_accuracy():
    measured = json.loads((HERE / "metrics.json").read_text())
    assert f"{measured['accuracy']:.2%}".replace("%", " %") in (HERE / "README.md").read_text()
    assert measured["images"] == 10000


@pytest.mark.heavy
def test_both_networks_are_one_function(labelled):
    import keras

    plain, model = (
        keras.saving.load_model(HERE / f"{name}.keras", compile=False)
        for name in ("plain", "model")
    )
    images, _ = labelled
    np.testing.assert_array_equal(
        plain.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    kernels = [m.get_layer("pointwise0").get_weights()[0] for m in (plain, model)]
    spread = [np.ptp(np.log2(np.abs(kernel).max(axis=(0, 1, 2)))) for kernel in kernels]
    assert spread[1] > spread[0] + 4  # powers of two between the largest channel and the smallest


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("name", "collapses"), [("plain", False), ("model", True)])
def test_only_the_scaled_network_collapses(name: str, collapses: bool, labelled, tmp_path: Path):
    from pipcook_deploy.converters.to_tflite import TfliteConverter
    from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime

    images, classes = labelled
    np.save(tmp_path / "calibration.npy", images[::2])
    model = load(HERE / f"{name}.keras", workdir=tmp_path)
    found = {}
    for precision in ("float32", "int8"):
        into = tmp_path / precision
        into.mkdir()
        options = {"calibration": tmp_path / "calibration.npy", "per_channel": False}
        converter = TfliteConverter(precision=precision, **options if precision == "int8" else {})
        answers = LiteRtRuntime().run_artifact(converter.convert(model, into), {"image": images})
        found[precision] = float((answers["probabilities"].argmax(axis=-1) == classes).mean())
    assert found["float32"] > 0.8
    assert (found["float32"] - found["int8"] > 0.2) is collapses
