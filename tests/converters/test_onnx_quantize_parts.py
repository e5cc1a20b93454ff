"""The parts of int8: strides that move, ranges, damage by node, lists of weights, pruning."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from pipcook_deploy.converters.onnx_quantize.calibrate import (
    Calibration,
    entropy_bins,
    find_ranges,
)
from pipcook_deploy.converters.onnx_quantize.damage import node_damage, weight_damage
from pipcook_deploy.converters.onnx_quantize.graph import attribute
from pipcook_deploy.converters.onnx_quantize.load import load_float
from pipcook_deploy.converters.onnx_quantize.params import activation, to_int8, weight_scales
from pipcook_deploy.converters.onnx_quantize.prepare import prepare
from pipcook_deploy.converters.onnx_quantize.weights import layers, prune_onnx
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.tensors import save_tensors
from tests.converters import onnx_made


def answers(proto, image):
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": image})


def test_preparing_changes_the_graph_and_not_the_answers(tmp_path):
    path = onnx_made.convnet(tmp_path / "s.onnx")
    before, image = onnx.load(path), onnx_made.pictures(7)
    after = prepare(load_float(path))
    np.testing.assert_allclose(answers(before, image)[0], answers(after, image)[0], atol=1e-5)
    nodes = {node.name: node for node in after.graph.node}
    assert "norm" not in nodes
    assert nodes["dense"].op_type == "Gemm"
    # nobody reads three quarters of what `second` computed
    assert attribute(nodes["second"], "strides") == [2, 2]
    assert attribute(nodes["left"], "strides") == [1, 1] == attribute(nodes["right"], "strides")
    assert [n.op_type for n in after.graph.node].count("MaxPool") == 1, "thins the other summand"


def test_strides_stay_where_everything_is_read(tmp_path):
    """As in `convnet`, but the tensor before the strides is an output too."""
    make = helper.make_node
    values = onnx_made.weights()
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["seen"], "first", pads=[1] * 4),
        make("Conv", ["seen", "w3", "b3"], ["answer"], "left", strides=[2, 2]),
    ]
    kept = {name: values[name] for name in ("w1", "b1", "w3", "b3")}
    path = onnx_made.saved(
        tmp_path / "s.onnx",
        nodes,
        kept,
        (3, 16, 16),
        (None, None, None),
        outputs=("answer", "seen"),
    )
    after = prepare(load_float(path))
    assert [attribute(n, "strides", [1, 1]) for n in after.graph.node] == [[1, 1], [2, 2]]


@pytest.mark.parametrize("before", ["Relu", "Identity"])
def test_zero_padding_before_a_pooling_is_folded_only_where_nothing_is_negative(before, tmp_path):
    make = helper.make_node
    nodes = [
        make(before, ["image"], ["x"]),
        make("Pad", ["x", "pads"], ["padded"]),
        make("MaxPool", ["padded"], ["answer"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    path = onnx_made.saved(tmp_path / "s.onnx", nodes, {"pads": pads}, (3, 16, 16), (3, 8, 8))
    after = prepare(load_float(path))
    assert ("Pad" in [n.op_type for n in after.graph.node]) == (before == "Identity")
    image = onnx_made.pictures(2) - 2
    np.testing.assert_array_equal(answers(onnx.load(path), image)[0], answers(after, image)[0])


def test_ranges_hold_all_values_or_most_of_them(tmp_path):
    proto = prepare(load_float(onnx_made.convnet(tmp_path / "s.onnx")))
    image = onnx_made.pictures(20)
    image[0, 0, 0, 0] = 50  # one wild pixel
    name = next(node.input[0] for node in proto.graph.node if node.name == "second")
    limits = {
        method: find_ranges(proto, ["image", name], {"image": image}, Calibration(method)).limits
        for method in ("minmax", "percentile", "entropy")
    }
    assert limits["minmax"]["image"] == (image.min(), image.max())
    assert limits["percentile"]["image"] == limits["minmax"]["image"], "an input keeps its range"
    for method in ("percentile", "entropy"):
        assert limits[method][name][1] < 0.95 * limits["minmax"][name][1]


def test_the_range_of_least_divergence():
    bulk = np.zeros(2048)
    bulk[:1024] = 1000
    assert entropy_bins(bulk) in range(1016, 1033), "nothing is behind the bulk"
    tail = np.exp(-(np.linspace(0, 6, 2048) ** 2)) * 1e6
    tail[-1] = 1
    assert entropy_bins(np.floor(tail)) < 1500, "a lonely value is cut off"


def test_scales():
    assert activation(0.0, 2.55, False).zero == 0
    signed = activation(-1.0, 1.0, True)
    assert signed.zero == 128 and signed.scale == pytest.approx(1 / 127)
    assert activation(3.0, 6.0, False).zero == 0, "zero is always in the range"
    assert activation(0.0, 0.0, False).scale == 1
    weight = np.array([[0.0, -0.5, 2.54], [0, 0, 0]], np.float32)
    scales = weight_scales(weight, 0)
    np.testing.assert_allclose(scales, [0.02, 1], rtol=1e-6)
    np.testing.assert_array_equal(to_int8(weight, scales, 0), [[0, -25, 127], [0, 0, 0]])


def test_the_node_that_suffers_has_the_most_damage(tmp_path):
    values = onnx_made.weights()
    values["w3"][:, 0] *= 1e4  # most of each row rounds to zero beside this
    values["w2"][0] = values["gamma"][0] = 0  # and the channel that it reads is dead
    values["b2"][0] = values["beta"][0] = -1
    path = onnx_made.convnet(tmp_path / "s.onnx", values=values)
    save_tensors(tmp_path / "inputs", {"image": onnx_made.pictures(24)})
    arguments = str(path), str(tmp_path / "inputs"), 16
    found = node_damage(*arguments)
    assert set(found) == {"first", "second", "left", "right", "dense"}
    assert found.pop("left") > 100 * max(found.values())
    assert list(weight_damage(*arguments)) == ["second"], "the others are too small to be stored"


def test_layers_and_pruning(tmp_path):
    path = onnx_made.convnet(tmp_path / "s.onnx")
    rows = {row["name"]: row for row in layers(str(path))}
    assert list(rows) == ["first", "second", "left", "right", "dense"]
    assert rows["first"]["kind"] == "Conv" and rows["first"]["shape"] == [8, 3, 3, 3]
    assert rows["first"]["parameters"] == 8 * 27 + 8
    assert rows["second"]["sparsity"] > 0.3
    assert sum(rows["dense"]["histogram"]["counts"]) == 16 * 5
    out = tmp_path / "pruned.onnx"
    made = prune_onnx(str(path), {"first": 0.5, "dense": 0.25}, str(out))
    assert made == {"first": 0.5, "dense": 0.25}
    after = {row["name"]: row["sparsity"] for row in layers(str(out))}
    assert after == {name: row["sparsity"] for name, row in rows.items()} | made
    with pytest.raises(CompressionError, match="no node with weights called third"):
        prune_onnx(str(path), {"third": 0.5}, str(out))


def test_a_value_that_is_met_everywhere_does_not_move_the_range():
    """A black background is one value a channel, zeros another: neither says where the others end."""
    bulk = 1000 * np.exp(-np.linspace(0, 3, 2048))
    with_spikes = bulk.copy()
    with_spikes[[0, 300, 700]] += 1e6
    assert abs(entropy_bins(with_spikes) - entropy_bins(bulk)) <= 64
    steps = np.zeros(2048)
    steps[::8] = 1000 * np.exp(-np.linspace(0, 1, 256))
    assert entropy_bins(steps, 256) > 1900, "values in steps, as those of a picture"
