"""The binary tensor extension: mixed with JSON, in any order, with heads that come again, and with wrong sizes."""

import json
import struct

import numpy as np
import pytest

from tests.server import tiny_models

HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with tiny_models.client_of(tiny_models.echo(tmp_path_factory.mktemp("m"))) as client:
        yield client


def values():
    found = {}
    for dtype in tiny_models.ECHOED:
        if dtype == "string":
            found[dtype] = np.array([["ä", ""]], dtype=object)
        else:
            found[dtype] = np.array([[1, 0]]).astype(dtype)
    return found


def raw(value):
    if value.dtype != object:
        return value.tobytes()
    texts = [text.encode() for text in value.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def body(arrays, binary, *, order=None, outputs=None, **changes):
    from pipcook_deploy.server.tensors.datatypes import DATATYPES

    rows, tail = [], b""
    for name in order or arrays:
        row = {"name": name, "datatype": DATATYPES[name], "shape": list(arrays[name].shape)}
        if name in binary:
            data = raw(arrays[name])
            row["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            row["data"] = arrays[name].tolist()
        rows.append(row | changes.get(name, {}))
    head = json.dumps({"inputs": rows, **({"outputs": outputs} if outputs else {})}).encode()
    return head, tail


def send(client, head, tail, length=None):
    headers = {HEADER: str(len(head) if length is None else length)}
    return client.post("/v2/models/echo/infer", content=head + tail, headers=headers)


def test_binary_and_json_inputs_in_any_order(echo):
    arrays = values()
    names = list(arrays)
    plain = send(echo, *body(arrays, [])).json()["outputs"]
    for binary, order in ((names, names), (names[::2], names[::-1]), (names[1::2], names)):
        answer = send(echo, *body(arrays, binary, order=order))
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"] == plain


def test_a_head_that_comes_again_takes_the_new_bytes(echo):
    arrays = values()
    names = list(arrays)
    for number in range(3):
        arrays["float32"] = np.array([[number, -number]], "float32")
        rows = {row["name"]: row for row in send(echo, *body(arrays, names)).json()["outputs"]}
        assert rows["float32_out"]["data"] == [number, -number]


def test_outputs_come_back_as_they_are_asked_for(echo):
    arrays = values()
    wanted = [
        {"name": "string_out", "parameters": {"binary_data": True}},
        {"name": "int64_out"},
        {"name": "float32_out", "parameters": {"binary_data": True}},
    ]
    answer = send(echo, *body(arrays, list(arrays), outputs=wanted))
    length = int(answer.headers[HEADER])
    head, tail = json.loads(answer.content[:length]), answer.content[length:]
    assert [row["name"] for row in head["outputs"]] == ["string_out", "int64_out", "float32_out"]
    sizes = [row.get("parameters", {}).get("binary_data_size") for row in head["outputs"]]
    assert sizes == [10, None, 8] and tail == raw(arrays["string"]) + raw(arrays["float32"])
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tail": b"x"}, "announced"),
        ({"cut": 1}, "announced"),
        ({"length": "9999999"}, "does not fit"),
        ({"length": "-1"}, "does not fit"),
        ({"length": "x"}, "does not fit"),
        ({"length": "3"}, "not JSON"),
        ({"float32": {"shape": [1, 3]}}, "does not fit"),
        ({"float32": {"datatype": "FP64"}}, "FP32"),
        ({"float32": {"parameters": {"binary_data_size": 4}}}, "takes 8 bytes"),
        ({"float32": {"parameters": {"binary_data_size": -4}}}, "whole number"),
        ({"float32": {"parameters": {"binary_data_size": "8"}}}, "whole number"),
        ({"float32": {"parameters": []}}, "object"),
        ({"float32": {"data": [1, 2]}}, "both"),
        ({"string": {"parameters": {"binary_data_size": 9}}}, "elements"),
    ],
    ids=range(14),
)
def test_what_does_not_fit_gets_400_with_the_reason(echo, change, reason):
    arrays = values()
    change = dict(change)
    more, cut, length = change.pop("tail", b""), change.pop("cut", 0), change.pop("length", None)
    head, tail = body(arrays, list(arrays), **change)
    tail = tail[: len(tail) - cut] + more
    if reason in ("takes 8 bytes", "elements"):
        announced = sum(row["parameters"]["binary_data_size"] for row in json.loads(head)["inputs"])
        tail = tail[:announced]
    answer = send(echo, head, tail, length)
    assert answer.status_code == 400 and reason in answer.json()["error"], answer.text


def test_binary_without_the_header_says_what_is_missing(echo):
    arrays = values()
    head, _ = body(arrays, list(arrays))
    answer = echo.post("/v2/models/echo/infer", content=head)
    assert answer.status_code == 400 and HEADER in answer.json()["error"]


def test_a_boolean_is_zero_or_one(echo):
    arrays = values()
    head, tail = body(arrays, ["bool"])
    answer = send(echo, head, b"\x02\x00")
    assert answer.status_code == 400 and "0 or 1" in answer.json()["error"]
    assert tail == b"\x01\x00"
