"""Rows and columns of JSON: the short way and the long one accept the same, and read the same."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors import fast_instances, instances, nonfinite
from pipcook_deploy.spec import TensorSpec

DTYPES = ("float16", "float32", "float64", "int8", "int64", "uint8", "uint64", "bool")
numbers = st.one_of(
    st.integers(-(2**64), 2**65),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([True, None, "1", {"b64": "MQ=="}, {}, []]),
)


def regular(draw, shape, leaf):
    if not shape:
        return draw(leaf)
    return [regular(draw, shape[1:], leaf) for _ in range(shape[0])]


@st.composite
def tensors(draw):
    """A tensor's spec, and values that fit it, or nearly."""
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    leaf = draw(st.sampled_from([st.integers(0, 3), st.floats(-9, 9), numbers]))
    value = regular(draw, shape, leaf)
    if draw(st.booleans()) and isinstance(value[-1], list):
        value[-1].append(draw(leaf))
    declared = [draw(st.sampled_from([None, size, 2])) for size in shape]
    return TensorSpec(name="x", dtype=draw(st.sampled_from(DTYPES)), shape=declared), value


def slowly(key, value, tensor):
    read = instances.from_rows if key == "instances" else instances.from_columns
    try:
        return read(value, (tensor,))["x"]
    except HttpError:
        return None


@settings(max_examples=400, deadline=None)
@given(tensors(), st.sampled_from(["instances", "inputs"]), st.integers(0, 2))
def test_both_ways_read_the_same(drawn, key, form):
    tensor, value = drawn
    body = {key: value}
    if form == 1:
        body = {"signature_name": "", key: value, "parameters": {"top": 3}}
    if form == 2 and key == "inputs":
        body = {key: {"x": value}}
    with np.errstate(over="ignore"):
        fast = fast_instances.read(json.dumps(body).encode(), (tensor,))
    slow = slowly(key, json.loads(json.dumps(body[key])), tensor)
    if fast is None:
        return
    assert slow is not None, (tensor, body)
    found = fast.tensors["x"]
    assert found.dtype == slow.dtype and found.shape == slow.shape
    assert np.array_equal(found, slow)
    assert fast.key == key and fast.rest == {k: v for k, v in body.items() if k != key}


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(1,), (2, 3), (1, 2, 2, 3)])
def test_plain_numbers_are_read_the_short_way(dtype, shape):
    tensor = TensorSpec(name="x", dtype=dtype, shape=(None, *shape[1:]))
    value = np.arange(np.prod(shape)).reshape(shape)
    for body in ({"instances": value.tolist()}, {"inputs": {"x": value.tolist()}}):
        found = fast_instances.read(json.dumps(body).encode(), (tensor,))
        assert found is not None
        assert np.array_equal(found.tensors["x"], value)


def test_two_columns_the_short_way():
    tensors = tuple(TensorSpec(name=name, dtype="float32", shape=(None, 2)) for name in "ab")
    body = b'{"inputs": {"b": [[3, 4], [5, 6]], "a": [[1, 2]]}, "signature_name": "x"}'
    found = fast_instances.read(body, tensors)
    assert list(found.tensors) == ["a", "b"]
    assert found.tensors["b"].tolist() == [[3, 4], [5, 6]]
    assert fast_instances.read(body.replace(b"[5, 6]", b"[5]"), tensors) is None
    assert fast_instances.read(body.replace(b'"x"', b'"],["'), tensors) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[' + b"1," * 999 + b"1]" + b",[1]" * 999 + b"]}",
        b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"instances": [[1, 2]], "instances": [[1, 2]]}',
        b'{"instances": [[1, 2]], "inputs": [[1, 2]]}',
        b'{"[": 1, "instances": [[1, 2]], "]": 1}',
        b'{"instances": [[1, 2]], "more": []}',
        b"[[1, 2]]",
        b"",
    ],
)
def test_bodies_that_are_left_to_the_long_way(body):
    tensor = TensorSpec(name="x", dtype="float32", shape=(None, 2))
    assert fast_instances.read(body, (tensor,)) is None
    plain = fast_instances.read(b'{"instances": [[1, 2]]}', (tensor,))
    assert plain is not None  # the parser is free again


def test_features_take_the_shape_of_a_sample():
    tensor = TensorSpec(name="x", dtype="float32", shape=(None, 2, None))
    found = instances.from_features([{"x": [1, 2, 3, 4]}, {"x": [5, 6, 7, 8]}], (tensor,))
    assert found["x"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    for wrong in ([1, 2, 3], [], 1):
        with pytest.raises(HttpError, match=r"shape \[2, -1\]"):
            instances.from_features([{"x": wrong}], (tensor,))


def test_tokens_have_the_digits_of_their_type():
    array = np.array([0.1, np.nan, np.inf, -np.inf, 3e38], np.float32)
    text = nonfinite.dumps({"a": array, "b": np.float16(0.1), "c": np.arange(2)})
    assert text == b'{"a":[0.1,NaN,Infinity,-Infinity,3e+38],"b":0.1,"c":[0,1]}'
