"""Small ONNX models, written by hand: what the tests of int8 start from."""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

SIDE, CHANNELS, CLASSES = 16, 8, 5


def saved(path, nodes, weights, shape, output, opset=17, outputs=("answer",)):
    """Write a model with the float input `image` and dynamic batch; returns the path."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *output]) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.doc_string = "chatter"
    checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def weights(seed=0):
    """Of `convnet`; the second convolution has zeros and a channel of nothing else."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    found = {
        "w1": normal(CHANNELS, 3, 3, 3),
        "b1": normal(CHANNELS),
        "gamma": 1 + normal(CHANNELS),
        "beta": normal(CHANNELS),
        "mean": normal(CHANNELS),
        "variance": 1 + np.abs(normal(CHANNELS)),
        "w2": normal(CHANNELS, CHANNELS, 3, 3),
        "b2": normal(CHANNELS),
        "w3": normal(16, CHANNELS, 1, 1),
        "b3": normal(16),
        "w4": normal(16, CHANNELS, 1, 1),
        "w5": normal(16, CLASSES),
        "b5": normal(CLASSES),
    }
    found["w2"][np.abs(found["w2"]) < 0.2] = 0
    found["w2"][3] = 0
    return found


def convnet(path, opset=17, values=None):
    """Batch norm, residual addition, twin strides, pooling and a dense layer: 3x16x16 -> 5 probabilities."""
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["c1"], "first", pads=[1] * 4),
        make("BatchNormalization", ["c1", "gamma", "beta", "mean", "variance"], ["n1"], "norm"),
        make("Relu", ["n1"], ["r1"], "relu_1"),
        make("Conv", ["r1", "w2", "b2"], ["c2"], "second", pads=[1] * 4),
        make("Add", ["c2", "r1"], ["a2"], "add"),
        make("Relu", ["a2"], ["r2"], "relu_2"),
        make("Conv", ["r2", "w3", "b3"], ["c3"], "left", strides=[2, 2]),
        make("Conv", ["r2", "w4"], ["c4"], "right", strides=[2, 2]),
        make("Add", ["c3", "c4"], ["a3"], "join"),
        make("GlobalAveragePool", ["a3"], ["p"], "pool"),
        make("Flatten", ["p"], ["f"], "flat"),
        make("MatMul", ["f", "w5"], ["m"], "dense"),
        make("Add", ["m", "b5"], ["logits"], "bias"),
        make("Softmax", ["logits"], ["answer"], "share", axis=1),
    ]
    return saved(path, nodes, values or weights(), (3, SIDE, SIDE), (CLASSES,), opset)


def pictures(count, seed=1):
    """Samples for `convnet` that differ in brightness and colour."""
    rng = np.random.default_rng(seed)
    shape = (count, 3, SIDE, SIDE)
    return (rng.random(shape) * rng.random((count, 3, 1, 1))).astype(np.float32)
