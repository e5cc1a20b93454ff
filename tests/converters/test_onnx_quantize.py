"""int8, int8 weights and float16 from ONNX sources: answers, integers, what stays in float, bytes."""

import hashlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pipcook_deploy.compare import compare_outputs, tolerance_for
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.errors import ConversionError
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from pipcook_deploy.sources.graph_sources import load_onnx
from tests.converters import onnx_made

INPUTS = {"image": onnx_made.pictures(48, seed=9)}


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "calibration.npz"
    np.savez(path, image=onnx_made.pictures(64))
    return path


@pytest.fixture
def source(tmp_path):
    return load_onnx(onnx_made.convnet(tmp_path / "source.onnx"), False, None)


def convert(source, folder, **options):
    folder.mkdir()
    return OnnxConverter(**options).convert(source, folder)


def stored(artifact):
    """Initializers of a file by name, with the nodes."""
    proto = onnx.load(artifact.file)
    return proto, {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def integer_weights(artifact):
    """int8 kernels with their scales, by the name of the node that reads them."""
    proto, values = stored(artifact)
    views = {n.output[0]: n for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    return {
        node.name: (values[views[node.input[1]].input[0]], values[views[node.input[1]].input[1]])
        for node in proto.graph.node
        if len(node.input) > 1 and node.input[1] in views and node.op_type != "Add"
    }


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "int8"},
        {"precision": "int8", "per_channel": False},
        {"precision": "int8", "symmetric": True},
        {"precision": "int8", "correct_bias": False},
        {"precision": "int8", "calibration_method": "entropy"},
        {"precision": "int8", "calibration_method": "percentile", "percentile": 99.9},
        {"precision": "int8_weights"},
        {"precision": "float16"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_way_answers_like_the_source(options, source, calibration, tmp_path):
    artifact = convert(source, tmp_path / "out", **options, calibration=calibration)
    assert artifact.precision == options["precision"]
    assert [row.name for row in artifact.inputs] == ["image"]
    opened = load_onnx(artifact.file, False, None)
    assert opened.spec.inputs == source.spec.inputs
    assert opened.spec.outputs == source.spec.outputs
    answers = OnnxRuntime().run_artifact(artifact, INPUTS)
    truth = OnnxRuntime().run_model(source, INPUTS)
    (row,) = compare_outputs(truth, answers, tolerance_for(artifact.precision))
    assert row.passed, row
    assert 0 < row.max_abs < 0.03
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]


def test_everything_between_the_ends_is_in_int8(source, calibration, tmp_path):
    artifact = convert(source, tmp_path / "out", precision="int8", calibration=calibration)
    details = artifact.details["quantization"]
    assert details["int8"] == ["first", "second", "left", "right", "dense"]
    assert details["float"] == details["weights_only"] == []
    assert details["calibration_samples"] == 64
    proto, values = stored(artifact)
    kinds = [node.op_type for node in proto.graph.node]
    assert "Relu" not in kinds, "u8 cannot be below zero"
    assert "BatchNormalization" not in kinds and kinds.count("Gemm") == 1
    assert all(v.size < 64 for v in values.values() if v.dtype == np.float32)
    assert not proto.doc_string and not proto.graph.value_info


def test_zeros_stay_zeros_and_equal_weights_equal(tmp_path, calibration):
    values = onnx_made.weights()
    values["w2"] = np.round(values["w2"] / 0.3).astype(np.float32) * 0.3  # a few clusters
    source = load_onnx(onnx_made.convnet(tmp_path / "source.onnx", values=values), False, None)
    for precision in ("int8", "int8_weights"):
        artifact = convert(
            source, tmp_path / precision, precision=precision, calibration=calibration
        )
        integers, scales = integer_weights(artifact)["second"]
        assert integers.dtype == np.int8 and scales.shape == (onnx_made.CHANNELS,)
        assert ((integers == 0) == (values["w2"] == 0)).all()
        for channel, weights in zip(integers, values["w2"], strict=True):
            assert len(np.unique(channel)) == len(np.unique(weights))


def test_a_bias_without_weights_is_not_lost(tmp_path, calibration):
    """The scale of a channel of zeros is free; the bias must fit into int32 with it."""
    values = onnx_made.weights()
    values["w1"][2] = 1e-12
    values["beta"][2] = 4.0
    source = load_onnx(onnx_made.convnet(tmp_path / "s.onnx", values=values), False, None)
    artifact = convert(source, tmp_path / "out", precision="int8", calibration=calibration)
    answers = OnnxRuntime().run_artifact(artifact, INPUTS)
    truth = OnnxRuntime().run_model(source, INPUTS)
    np.testing.assert_allclose(answers["answer"], truth["answer"], atol=0.03)


def test_a_scale_a_channel_saves_what_one_scale_ruins(tmp_path, calibration):
    """Channels of very different size, undone in the next layer: the function is the same."""
    values = onnx_made.weights()
    factor = (2.0 ** np.linspace(-7, 7, onnx_made.CHANNELS)).astype(np.float32)
    # per input channel of the next layer the activations differ: only the weights' rows are scaled here
    values["w1"] *= factor[:, None, None, None]
    values["b1"] *= factor
    values["mean"] *= factor
    values["variance"] = (values["variance"] + 1e-5) * factor**2 - 1e-5
    values["variance"] = np.maximum(values["variance"], 1e-9).astype(np.float32)
    source = load_onnx(onnx_made.convnet(tmp_path / "s.onnx", values=values), False, None)
    truth = OnnxRuntime().run_model(source, INPUTS)["answer"]
    errors = {}
    for per_channel in (True, False):
        artifact = convert(
            source,
            tmp_path / str(per_channel),
            precision="int8_weights",
            per_channel=per_channel,
        )
        answers = OnnxRuntime().run_artifact(artifact, INPUTS)["answer"]
        errors[per_channel] = np.abs(answers - truth).max()
    assert errors[True] < 0.03


def test_excluded_nodes_stay_in_float(source, calibration, tmp_path):
    artifact = convert(
        source,
        tmp_path / "out",
        precision="int8",
        calibration=calibration,
        exclude=("sec*", "dense"),
    )
    details = artifact.details["quantization"]
    assert details["int8"] == ["first", "left", "right"]
    assert details["float"] == ["second", "dense"]
    _, values = stored(artifact)
    assert any(np.array_equal(v, onnx_made.weights()["w2"]) for v in values.values())
    with pytest.raises(ConversionError, match=r"no node is called 'secnod'.*second"):
        convert(source, tmp_path / "typo", precision="int8_weights", exclude=("secnod",))


def test_without_a_precision_the_source_is_copied(source, tmp_path):
    artifact = convert(source, tmp_path / "out")
    assert artifact.file.read_bytes() == source.path.read_bytes()


def test_old_operator_sets_are_raised(tmp_path, calibration):
    source = load_onnx(onnx_made.convnet(tmp_path / "old.onnx", opset=11), False, None)
    artifact = convert(source, tmp_path / "out", precision="int8", calibration=calibration)
    assert artifact.details["opset"] == 13
    truth = OnnxRuntime().run_model(source, INPUTS)["answer"]
    answers = OnnxRuntime().run_artifact(artifact, INPUTS)["answer"]
    np.testing.assert_allclose(answers, truth, atol=0.03)


def test_a_set_that_cannot_be_raised_is_told(tmp_path, calibration):
    nodes = [helper.make_node("Upsample", ["image", "by"], ["answer"], mode="nearest")]
    path = onnx_made.saved(
        tmp_path / "old.onnx",
        nodes,
        {"by": np.array([1, 1, 2, 2], np.float32)},
        (3, 16, 16),
        (3, 32, 32),
        opset=9,
    )
    source = load_onnx(path, False, None)
    with pytest.raises(ConversionError, match=r"from opset 9 to 13|nothing in the model"):
        convert(source, tmp_path / "out", precision="int8", calibration=calibration)


def test_what_is_quantized_is_not_quantized_again(source, calibration, tmp_path):
    once = convert(source, tmp_path / "once", precision="int8_weights")
    again = load_onnx(once.file, False, None)
    with pytest.raises(ConversionError, match="quantized already"):
        convert(again, tmp_path / "again", precision="int8", calibration=calibration)


def test_calibration_sets_that_do_not_fit_are_told(source, tmp_path):
    with pytest.raises(ConversionError, match="needs a calibration set"):
        convert(source, tmp_path / "a", precision="int8")
    for number, (arrays, reason) in enumerate(
        [
            ({"picture": INPUTS["image"]}, "no array called 'image'"),
            ({"image": INPUTS["image"][:, :2]}, "has shape"),
            ({"image": INPUTS["image"] * np.float32(np.nan)}, "not finite"),
        ]
    ):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **arrays)
        with pytest.raises(ConversionError, match=reason):
            convert(source, tmp_path / f"out{number}", precision="int8", calibration=path)
    (tmp_path / "x.npz").write_bytes(b"nonsense")
    with pytest.raises(ConversionError, match="not a calibration set"):
        convert(source, tmp_path / "b", precision="int8", calibration=tmp_path / "x.npz")


def test_a_model_without_weights_is_refused(tmp_path, calibration):
    nodes = [helper.make_node("Relu", ["image"], ["answer"])]
    path = onnx_made.saved(tmp_path / "s.onnx", nodes, {}, (3, 16, 16), (3, 16, 16))
    source = load_onnx(path, False, None)
    for precision in ("int8", "int8_weights"):
        with pytest.raises(ConversionError, match="int8"):
            convert(source, tmp_path / precision, precision=precision, calibration=calibration)


@pytest.mark.parametrize("precision", ["int8", "int8_weights", "float16"])
def test_two_processes_write_the_same_bytes(precision, source, calibration, tmp_path):
    code = (
        "import sys, pathlib\n"
        "from pipcook_deploy.converters.to_onnx import OnnxConverter\n"
        "from pipcook_deploy.sources.graph_sources import load_onnx\n"
        "source, calibration, precision, out = sys.argv[1:]\n"
        "OnnxConverter(precision=precision, calibration=calibration)"
        ".convert(load_onnx(pathlib.Path(source), False, None), pathlib.Path(out))\n"
    )
    digests = set()
    for number in range(2):
        out = tmp_path / str(number)
        out.mkdir()
        command = [sys.executable, "-c", code, source.path, calibration, precision, out]
        subprocess.run(list(map(str, command)), check=True, env={"PYTHONHASHSEED": str(number)})
        digests.add(hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest())
    assert len(digests) == 1
