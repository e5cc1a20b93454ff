"""A network that int8 ruins is mended or refused, and never bundled as it is: see examples/collapse."""

import json
import re

import numpy as np
import pytest

from pipcook_deploy import deploy
from pipcook_deploy.errors import BudgetError
from tests.fashion import DATA, EXAMPLE, LABELS
from tests.integration.judged import accuracy, labelled_images

COLLAPSE = EXAMPLE.parent / "collapse" / "model.keras"
GREY = (
    {"op": "decode", "channels": "grey"},
    {"op": "resize", "height": 28, "width": 28},
    {"op": "scale", "factor": 1 / 255},
)
COARSE = {"precision": "int8", "per_channel": False}
ACCURACY = 0.8803  # of the source, on all 10,000
LOST = 0.05  # at most, on 1,000 other images; what collapsed loses ten times as much


@pytest.fixture(scope="module")
def images():
    found, classes = labelled_images(1000)
    return found[..., np.newaxis].astype(np.float32) / 255, classes


def _compressed(source, out, **changes):
    arguments = {
        "labels": LABELS,
        "preprocessing": GREY,
        "task": "image-classification",
        "data": DATA | {"limit": 600},
        "budget": {"max_drop": 0.02, "sparsities": (), "explore": 0},
        "bench": {"enabled": False},
    }
    return deploy(source, out=out, **(arguments | changes))


@pytest.fixture(scope="module")
def mended(tmp_path_factory):
    out = tmp_path_factory.mktemp("collapse") / "mended"
    options = {"tfjs": {"precision": "uint8", "levels": 64}}  # one number of them, to save time
    return _compressed(COLLAPSE, out, to=("tfjs", "onnx", "tflite"), options=options)


@pytest.mark.heavy
@pytest.mark.node
def test_uneven_channels_are_noticed(mended):
    report = json.loads((mended.path / "report" / "report.json").read_text())
    note = next(note for note in report["notes"] if "equalized" in note)
    assert int(re.search(r"by (\d+) times", note)[1]) >= 8


@pytest.mark.heavy
@pytest.mark.node
@pytest.mark.parametrize(
    ("format", "precision", "most"),
    [("tfjs", "uint8", 0.3), ("onnx", "int8", 0.4), ("tflite", "int8", 0.4)],
)
def test_every_format_ends_in_bytes_of_the_equalized_model(mended, images, format, precision, most):
    entry = next(row for row in mended.manifest.artifacts if row.format == format)
    assert entry.precision.startswith(precision)
    assert "equalize" in entry.chain
    assert entry.wire_size < most * entry.compression.float_wire_size
    assert accuracy(mended, format, *images) > ACCURACY - LOST


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The collapsing network as files without layers, which nothing can equalize."""
    out = tmp_path_factory.mktemp("graphs") / "graphs"
    bundle = deploy(COLLAPSE, out=out, to=("onnx", "saved_model"))
    return {name: bundle.path / "artifacts" / name for name in ("onnx", "saved_model")}


@pytest.mark.heavy
@pytest.mark.parametrize(("source", "format"), [("onnx", "onnx"), ("saved_model", "tflite")])
def test_where_nothing_can_be_equalized_other_precisions_are_found(
    graphs, images, tmp_path, source, format
):
    bundle = _compressed(graphs[source], tmp_path / "b", to=(format,))
    (entry,) = bundle.manifest.artifacts
    assert entry.precision in ("int8_weights", "int16x8")
    assert entry.wire_size < 0.5 * entry.compression.float_wire_size
    assert accuracy(bundle, format, *images) > ACCURACY - LOST


@pytest.mark.heavy
@pytest.mark.parametrize(("source", "format"), [("onnx", "onnx"), ("saved_model", "tflite")])
def test_int8_of_a_graph_is_mended_with_floats_or_refused(graphs, images, tmp_path, source, format):
    try:
        bundle = _compressed(graphs[source], tmp_path / "b", to=(format,), options={format: COARSE})
    except BudgetError as error:
        assert error.exit_code == 10
        assert "Keras file" in error.hint
        assert not (tmp_path / "b").exists()
    else:
        (entry,) = bundle.manifest.artifacts
        assert entry.compression.blessed_by.drop.value <= 0.02
        assert accuracy(bundle, format, *images) > ACCURACY - LOST
