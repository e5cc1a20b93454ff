"""Layers and totals without TensorFlow; heavy tests compare with what the frameworks themselves count."""

import json
from math import prod
from pathlib import Path

import pytest

from pipcook_deploy.inspect_model import Inspection, inspect
from pipcook_deploy.sources import load
from pipcook_deploy.sources.layer_math import UNKNOWN
from pipcook_deploy.sources.layer_rules import apply
from tests.sources import builders as make


def look(path: Path, tmp_path: Path) -> Inspection:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    found = inspect(load(path, workdir=work))
    json.dumps(found.to_json(), allow_nan=False)
    return found


def test_keras_layers_and_totals(tmp_path):
    found = look(make.keras_archive(tmp_path / "m.keras"), tmp_path)
    assert [row.name for row in found.layers] == ["x", "answer"]
    assert found.layers[1].output_shape == (None, 3)
    assert (found.parameters, found.macs, found.weight_bytes) == (15, 12, 60)
    assert found.ops == {"Dense": 1, "InputLayer": 1}


def test_nested_layers_have_paths(tmp_path):
    found = look(make.workspace(tmp_path / "w"), tmp_path)
    rows = {row.name: row for row in found.layers}
    assert rows["backbone/conv"].output_shape == (None, 3, 3, 2)
    assert rows["backbone/conv"].macs == 3 * 3 * 3 * 2 * 9
    assert rows["classes"].parameters == 18 * 3 + 3


def test_unknown_is_null_and_said(tmp_path):
    topology = make.sequential(
        make.input_layer([None, 4]), {"class_name": "Mystery", "config": {"name": "m"}}
    )
    found = look(make.keras_h5(tmp_path / "m.h5", topology), tmp_path)
    assert found.macs is None
    assert found.to_json()["layers"][1]["parameters"] is None
    assert "Mystery" in " ".join(found.notes)
    graph = look(make.DATA / "two_signatures", tmp_path)
    assert (graph.macs, graph.parameters, graph.layers) == (None, 1, ())
    assert "unknown" in " ".join(graph.notes)


def test_onnx(tmp_path):
    (tmp_path / "m.onnx").write_bytes(make.onnx_bytes())
    found = look(tmp_path / "m.onnx", tmp_path)
    assert (found.parameters, found.macs, found.weight_bytes) == (12, 12, 48)
    (tmp_path / "l.onnx").write_bytes(make.onnx_bytes(op="LSTM"))
    assert look(tmp_path / "l.onnx", tmp_path).macs is None


def test_tflite(tmp_path):
    found = look(make.DATA / "small.tflite", tmp_path)
    assert found.macs == 3888 + 12  # conv 3x3x3x4 at 6x6, dense 4x3
    assert found.ops["CONV_2D"] == 1


@pytest.mark.parametrize(
    ("name", "config", "shape", "output", "parameters", "macs"),
    [
        ("Dense", {"units": 5}, (None, 7, 4), (None, 7, 5), 25, 140),
        ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "groups": 2}, (None, 5, 5, 2), (None, 3, 3, 4), 40, 324),
        ("Conv1D", {"filters": 4, "kernel_size": 3, "padding": "causal"}, (None, 9, 2), (None, 9, 4), 28, 216),
        ("Conv2D", {"filters": 4, "kernel_size": 1, "data_format": "channels_first"}, (None, 2, 5, 5), (None, 4, 5, 5), 12, 200),
        ("Conv2DTranspose", {"filters": 4, "kernel_size": 3, "strides": 2}, (None, 5, 5, 2), (None, 11, 11, 4), 76, 1800),
        ("DepthwiseConv2D", {"kernel_size": 3, "strides": 2, "padding": "same"}, (None, 5, 5, 2), (None, 3, 3, 2), 20, 162),
        ("MaxPooling2D", {"pool_size": 2}, (None, 5, 5, 2), (None, 2, 2, 2), 0, 0),
        ("AveragePooling2D", {"pool_size": 2, "padding": "same"}, (None, 5, 5, 2), (None, 3, 3, 2), 0, 0),
        ("GlobalMaxPooling2D", {"keepdims": True}, (None, 5, 5, 2), (None, 1, 1, 2), 0, 0),
        ("BatchNormalization", {"axis": [3], "scale": False}, (None, 5, 5, 2), (None, 5, 5, 2), 6, 0),
        ("Reshape", {"target_shape": [-1, 5]}, (None, 5, 5, 2), (None, 10, 5), 0, 0),
        ("ZeroPadding2D", {"padding": [[0, 1], [2, 3]]}, (None, 5, 5, 2), (None, 6, 10, 2), 0, 0),
        ("Cropping1D", {"cropping": [1, 2]}, (None, 9, 2), (None, 6, 2), 0, 0),
        ("UpSampling2D", {"size": 2}, (None, None, 5, 2), (None, None, 10, 2), 0, 0),
        ("GRU", {"units": 3, "reset_after": True}, (None, 7, 2), (None, 3), 63, 315),
        ("GRU", {"units": 3}, (None, 7, 2), (None, 3), 54, 315),
        ("LSTM", {"units": 3, "return_sequences": True}, (None, None, 2), (None, None, 3), 72, None),
    ],
)  # fmt: skip
def test_rules(name, config, shape, output, parameters, macs):
    effect = apply(name, config, (shape,))
    assert (effect.outputs[0], effect.parameters, effect.macs) == (output, parameters, macs)


def test_rules_that_do_not_apply_say_unknown():
    assert apply("Conv2D", {"filters": 4}, ((None, 5, 5, 2),)) == UNKNOWN
    assert apply("Dense", {"units": 4}, (None,)) == UNKNOWN
    assert apply("Add", {}, ((None, 5, 1), (None, 1, 4))).outputs == ((None, 5, 4),)
    assert apply("Concatenate", {"axis": 1}, ((None, 5, 1), (None, None, 1))).outputs == (
        (None, None, 1),
    )


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "gru", "transformer", "multi_io"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_shapes_and_counts_are_those_of_keras(tmp_path, name, suffix):
    from tests import zoo

    model = getattr(zoo, name)()
    path = tmp_path / f"m{suffix}"
    model.save(path)
    found = look(path, tmp_path)
    assert found.parameters == model.count_params()
    assert sum(row.parameters or 0 for row in found.layers) == model.count_params()
    assert [t.shape for t in found.spec.outputs] == [tuple(t.shape) for t in model.outputs]
    rows = {row.name: row for row in found.layers}
    for layer in model.layers:
        assert rows[layer.name].parameters == sum(prod(w.shape) for w in layer.weights)
    assert found.macs is not None
