"""image.json: what is written is read again, and what is none is refused."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.reachable import reachable
from pipcook_deploy.images.record import (
    BootEntry,
    ContractEntry,
    DrainEntry,
    ImageRecord,
    LayerEntry,
    PushEntry,
    ScanEntry,
)

BOOT = BootEntry(
    engine="docker 28.1", memory=1 << 28, seconds_to_first_answer=0.9, starts=("standard", "read-only"),
    contracts=(
        ContractEntry(contract="oip", start="standard", samples=4, largest_difference=1e-7),
        ContractEntry(contract="tf-serving", start="standard", samples=0, skipped="text"),
    ),
    drain=DrainEntry(answered=100, after_sigterm=3, lost=0, seconds=0.4, exit_code=0),
)  # fmt: skip
RECORD = ImageRecord(
    id="sha256:1", tags=("shoes:1", "shoes:1-abc"), content="c" * 64, bundle="b" * 64, built_by="docker 28.1",
    parameters={"engine": "onnxruntime", "port": 8080, "grpc": False, "note": 'a "b"; $(touch x) 鞋'},
    layers=(LayerEntry(what="COPY a /", diff_id="sha256:2", size=100, compressed=40),
            LayerEntry(what="COPY b /", diff_id="sha256:3", size=50, compressed=30)),
    boot=BOOT, scan=ScanEntry(scanner="trivy", findings={"low": 2}),
    pushes=(PushEntry(reference="registry.example/shoes:1", digest="sha256:4", signed=True),),
)  # fmt: skip


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "image.json"
    path.write_text(RECORD.dump(), encoding="utf-8")
    assert ImageRecord.load(path) == RECORD
    assert RECORD.dump() == ImageRecord.load(path).dump()
    assert "鞋" in path.read_text(encoding="utf-8")
    assert RECORD.dump().endswith("}\n")


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 40))))
def test_sizes_are_sums_and_unknown_if_one_is(sizes):
    layers = tuple(LayerEntry(what="", diff_id="", size=s, compressed=c) for s, c in sizes)
    record = RECORD.model_copy(update={"layers": layers})
    assert record.size == sum(size for size, _ in sizes)
    known = [compressed for _, compressed in sizes if compressed is not None]
    assert record.compressed == (sum(known) if len(known) == len(sizes) else None)


def test_a_record_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(ImageError, match="no image that was built") as raised:
        ImageRecord.load(tmp_path / "image.json")
    assert "--target docker --build" in raised.value.hint


def changed(**changes):
    return json.dumps(json.loads(RECORD.dump()) | changes).encode()


BROKEN = {
    "empty": b"",
    "cut": RECORD.dump().encode()[:-20],
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "of a later version": changed(record_version=2),
    "with something else": changed(extra=1),
    "without an id": changed(id=None),
    "with layers that are none": changed(layers=[{"size": 1}]),
    "with a scan that is none": changed(scan={"scanner": "trivy", "findings": ["x"]}),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_record_is_refused_by_its_path(tmp_path, data):
    path = tmp_path / "image.json"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="cannot be read") as raised:
        ImageRecord.load(path)
    assert str(path) in raised.value.message


def test_a_folder_is_no_record(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        ImageRecord.load(tmp_path)


# Whether something can be reached


def test_who_listens_or_refuses_is_reachable():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert reachable("127.0.0.1", port)
    assert reachable("127.0.0.1", port)


def test_who_is_silent_or_nowhere_is_not(monkeypatch):
    def nothing(place, timeout):
        assert timeout < 2
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", nothing)
    assert not reachable("192.0.2.1", 80)
