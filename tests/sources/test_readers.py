"""The readers of binary formats: whatever bytes they are given, they answer or raise `SourceError`."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipcook_deploy.errors import SourceError
from pipcook_deploy.formats import protobuf_wire, tensor_bundle
from pipcook_deploy.formats.onnx_file import read_onnx
from pipcook_deploy.formats.saved_model_file import read_saved_model
from pipcook_deploy.formats.tflite_file import read_tflite
from pipcook_deploy.inspect_model import inspect
from pipcook_deploy.sources import load
from tests.sources import builders as make

SAVED = (make.DATA / "two_signatures" / "saved_model.pb").read_bytes()
TFLITE = (make.DATA / "small.tflite").read_bytes()
INDEX = (make.DATA / "two_signatures" / "variables" / "variables.index").read_bytes()
READERS = {
    "onnx": (lambda data: read_onnx(data, Path("absent")), make.onnx_bytes()),
    "saved_model": (read_saved_model, SAVED),
    "tflite": (read_tflite, TFLITE),
    "bundle": (tensor_bundle._table, INDEX),
}
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def survives(reader, data: bytes) -> None:
    with suppress(SourceError):
        reader(memoryview(data))


@pytest.mark.parametrize("kind", READERS)
@FUZZ
@given(data=st.binary(max_size=300))
def test_random_bytes(kind, data):
    survives(READERS[kind][0], data)


@pytest.mark.parametrize("kind", READERS)
@FUZZ
@given(where=st.integers(0, 20_000), value=st.integers(0, 255), cut=st.integers(0, 20_000))
def test_changed_and_cut_files(kind, where, value, cut):
    reader, whole = READERS[kind]
    data = bytearray(whole)
    data[where % len(data)] = value
    survives(reader, bytes(data))
    survives(reader, bytes(data[: cut % len(data)]))


@FUZZ
@given(
    data=st.binary(max_size=200),
    prefix=st.sampled_from(
        [b"", b"\x08\x08\x12", b"PK\x03\x04", b"{", b"\x89HDF\r\n\x1a\n", b"\0\0\0\0TFL3"]
    ),
)
def test_load_of_random_files(tmp_path, data, prefix):
    (tmp_path / "file").write_bytes(prefix + data)
    with pytest.raises(SourceError):
        load(tmp_path / "file", workdir=tmp_path)


def test_wire_values():
    message = protobuf_wire.Message.read(
        memoryview(make.pb((1, -1), (2, "é"), (3, 5), (3, 6), (4, b"\x01\x02")))
    )
    assert message.integer(1) == -1
    assert message.text(2) == "é"
    assert message.integers(3) == [5, 6]
    assert message.integers(4) == [1, 2]
    assert message.integer(3) == 6  # the last wins
    assert message.integer(9, 7) == 7


@pytest.mark.parametrize(
    "data", [b"\x80", b"\xff" * 12, b"\x0a\x05a", b"\x00\x00", b"\x0b", b"\x0d\x00"]
)
def test_malformed_wire(data):
    with pytest.raises(SourceError):
        list(protobuf_wire.fields(memoryview(data)))


def test_bundle_entries():
    entries = tensor_bundle.read_bundle(make.DATA / "two_signatures" / "variables")
    assert entries["v/.ATTRIBUTES/VARIABLE_VALUE"] == tensor_bundle.BundleEntry(1, (), 4)


JUNK = (None, 0, -1, 1.5, "x", [], {}, [[None]], {"a": 1}, True, 10**30, ["a", 0, 0])


def places(value, path=()):
    """The path of every value in nested data."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize("name", ["model.json", "pipeline.json", "categories.json"])
@FUZZ
@given(place=st.integers(0, 10_000), junk=st.sampled_from(JUNK), lose=st.booleans())
def test_workspaces_with_a_wrong_value(tmp_path, name, place, junk, lose):
    root = tmp_path / "w"
    if not root.exists():
        make.workspace(root)
        (root / "whole").write_text((root / "model" / name).read_text())
    data = json.loads((root / "whole").read_text())
    found = list(places(data))
    *path, last = found[place % len(found)]
    inner = data
    for key in path:
        inner = inner[key]
    if lose:
        del inner[last]
    else:
        inner[last] = junk
    (root / "model" / name).write_text(json.dumps(data))
    with suppress(SourceError):
        inspect(load(root, workdir=tmp_path)).to_json()


def test_models_that_double_at_each_level(tmp_path):
    model = make.sequential(make.input_layer([None, 4]), make.dense("d", 4))
    for level in range(40):
        first = make.input_layer([None, 4]) | {"name": "x", "inbound_nodes": []}
        name = f"level{level}"
        calls = [[["x", 0, 0, {}]], [[name, 1, 0, {}]]]
        inner = model | {"name": name, "inbound_nodes": calls}
        config = {
            "name": "outer",
            "layers": [first, inner],
            "input_layers": [["x", 0, 0]],
            "output_layers": [[name, 2, 0]],
        }
        model = {"class_name": "Functional", "config": config}
    with pytest.raises(SourceError, match="more than"):
        load(make.keras_h5(tmp_path / "m.h5", model), workdir=tmp_path)


def test_a_recurrent_layer_is_found_at_any_depth():
    from pipcook_deploy.sources.keras_topology import is_recurrent

    def model(*layers):
        return {"class_name": "Sequential", "config": {"layers": list(layers)}}

    dense, lstm = {"class_name": "Dense", "config": {}}, {"class_name": "LSTM", "config": {}}
    assert not is_recurrent(model(dense))
    assert is_recurrent(model(dense, model(lstm)))
    wrapped = {"class_name": "Bidirectional", "config": {"layer": lstm}}
    assert is_recurrent(model(wrapped))
