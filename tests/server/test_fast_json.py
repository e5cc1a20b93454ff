"""The quick reader of JSON tensors must give what the strict one gives, or nothing."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors import fast_json
from pipcook_deploy.server.tensors.datatypes import DATATYPES
from pipcook_deploy.server.tensors.strict_json import read_tensor
from pipcook_deploy.spec import TensorSpec

NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(-300, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([3.4e38, 3.5e38, -3.5e38, 1e-46, -0.0, 2.0]),
)
LEAVES = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.booleans(), st.none(), st.text(max_size=2))
SIZES = st.one_of(st.integers(-1, 3), st.sampled_from([1.0, True, None, "2"]))


@st.composite
def row(draw):
    """A row that often is right: flat or nested data for a shape, sometimes with one thing wrong."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = int(np.prod(shape))
    leaf = draw(st.sampled_from([NUMBERS, st.integers(-5, 5), LEAVES]))
    data = draw(st.lists(leaf, min_size=count, max_size=count))
    if len(shape) > 1 and draw(st.booleans()):
        for size in reversed(shape[1:]):
            data = [data[i : i + size] for i in range(0, len(data), size)] if size else data
    if draw(st.integers(0, 4)) == 0:
        shape = draw(st.lists(SIZES, max_size=3))
    return {
        "name": "x",
        "datatype": draw(st.sampled_from(sorted(DATATYPES.values()))),
        "shape": shape,
        "data": data,
    }


def strict(given_row, tensor):
    try:
        return read_tensor(given_row, tensor, 16)
    except HttpError:
        return None


@settings(max_examples=600, deadline=None)
@given(row(), st.sampled_from(sorted(fast_json.NUMBERS)), st.booleans())
def test_it_gives_what_the_strict_reader_gives(given_row, dtype, keep):
    if keep:
        given_row["datatype"] = DATATYPES[dtype]
    tensor = TensorSpec(name="x", dtype=dtype, shape=(None,) * len(given_row["shape"]))
    reader = fast_json.PlainReader((tensor,), 1000)
    document = fast_json.parse(json.dumps({"inputs": [given_row]}).encode())
    quick = None if document is None else reader.read(document)
    del document
    if quick is None:
        return
    expected = strict(given_row, tensor)
    assert expected is not None, given_row
    assert quick["x"].dtype == expected.dtype and quick["x"].shape == expected.shape
    assert np.array_equal(quick["x"], expected)


def test_it_reads_what_is_plain():
    tensors = (
        TensorSpec(name="a", dtype="float32", shape=(None, 2)),
        TensorSpec(name="b", dtype="int8", shape=(None,)),
    )
    body = {
        "inputs": [
            {"name": "b", "datatype": "INT8", "shape": [2], "data": [-128, 127]},
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 2]]},
        ]
    }
    quick = fast_json.PlainReader(tensors, 10).read(fast_json.parse(json.dumps(body).encode()))
    assert list(quick) == ["a", "b"]
    assert quick["a"].tolist() == [[0.5, 2]] and quick["b"].tolist() == [-128, 127]
    assert quick["a"].dtype == np.float32 and quick["b"].dtype == np.int8
    few = fast_json.PlainReader(tensors, 1)
    assert few.read(fast_json.parse(json.dumps(body).encode())) is None
