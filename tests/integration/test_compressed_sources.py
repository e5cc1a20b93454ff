"""Every kind of source is made smaller in every format that it can become, with or without layers to work on."""

import numpy as np
import pytest

from pipcook_deploy import deploy
from pipcook_deploy.errors import UnsupportedConversionError
from tests.fashion import DATA, EXAMPLE, LABELS, PREPROCESSING
from tests.integration.judged import accuracy, labelled_images

ACCURACY = 0.90  # of the source: 91 %
SMALLER = {"tfjs": 0.2, "onnx": 0.3, "tflite": 0.3, "saved_model": 1.0}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One model in all the formats that sources come in."""
    import keras

    from pipcook_deploy.keras_rebuild.build import rebuild

    folder = tmp_path_factory.mktemp("sources")
    formats = ("onnx", "saved_model", "tflite")
    bundle = deploy(EXAMPLE / "model.keras", out=folder / "made", to=formats)
    found = {name: bundle.path / "artifacts" / name for name in formats}
    found["h5"] = folder / "legacy.h5"
    live = keras.saving.load_model(EXAMPLE / "model.keras", compile=False)
    rebuild(live).save(found["h5"], include_optimizer=False)
    return found | {"workspace": EXAMPLE / "workspace"}


@pytest.fixture(scope="module")
def images():
    found, classes = labelled_images(1000)
    return np.repeat(found[..., np.newaxis], 3, axis=-1).astype(np.float32), classes


def _compressed(source, out, to, sparsities):
    options = {"tfjs": {"precision": "uint8", "levels": 32}}  # one number of them, to save time
    return deploy(
        source,
        out=out,
        to=to,
        options={name: row for name, row in options.items() if name in to},
        labels=LABELS,
        preprocessing=PREPROCESSING,
        task="image-classification",
        data=DATA | {"limit": 600},
        budget={"max_drop": 0.02, "sparsities": sparsities, "explore": 0},
        bench={"enabled": False},
    )


@pytest.mark.heavy
@pytest.mark.node
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("source", "to", "sparsities"),
    [
        ("onnx", ("onnx",), (0.3,)),
        ("saved_model", ("tfjs", "onnx", "tflite", "saved_model"), (0.3,)),
        ("tflite", ("tflite",), (0.3,)),
        ("h5", ("onnx", "saved_model"), (0.3,)),
        ("workspace", ("tfjs", "tflite"), ()),
    ],
)
def test_a_source_is_made_smaller_in_every_format(
    sources, images, tmp_path, source, to, sparsities
):
    bundle = _compressed(sources[source], tmp_path / "b", to, sparsities)
    assert [entry.format for entry in bundle.manifest.artifacts] == list(to)
    for entry in bundle.manifest.artifacts:
        done = entry.compression
        assert entry.wire_size <= SMALLER[entry.format] * done.float_wire_size, entry.format
        assert done.blessed_by.drop.value <= 0.02
        assert ("prune" in entry.chain) == (source == "h5")
        if entry.format in ("onnx", "tflite"):
            assert entry.precision == "int8"
        assert accuracy(bundle, entry.format, *images) > ACCURACY - 0.03, entry.format


@pytest.mark.heavy
@pytest.mark.parametrize(("source", "to"), [("onnx", "tflite"), ("tflite", "onnx")])
def test_a_source_that_cannot_become_a_format_says_so_at_once(sources, tmp_path, source, to):
    with pytest.raises(UnsupportedConversionError, match=f"{to}: no chain .* from {source}"):
        _compressed(sources[source], tmp_path / "b", (to,), ())
