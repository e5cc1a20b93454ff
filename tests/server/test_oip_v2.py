"""Open Inference Protocol v2 over a real socket."""

import json

import pytest

from tests.server import tiny_models

VALUES = {
    "float32": [1.5, -2], "float64": [1e300, 0.1], "uint8": [0, 255], "int8": [-128, 127],
    "uint16": [0, 65535], "int16": [-32768, 32767], "uint32": [0, 2**32 - 1], "int32": [-(2**31), 7],
    "uint64": [0, 2**64 - 1], "int64": [-(2**63), 2**63 - 1], "bool": [True, False],
    "string": ["é \u0000 \"x\"", ""],
}  # fmt: skip
SPELLED = {
    "float32": "FP32", "float64": "FP64", "bool": "BOOL", "string": "BYTES",
} | {name: name.upper() for name in VALUES if "int" in name}  # fmt: skip


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    with tiny_models.client_of(tiny_models.echo(tmp_path_factory.mktemp("m"))) as client:
        yield client


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    with tiny_models.client_of(tiny_models.colours(tmp_path_factory.mktemp("m"))) as client:
        yield client


def message(**changes):
    inputs = [
        {"name": d, "datatype": SPELLED[d], "shape": [1, 2], "data": list(v)}
        for d, v in VALUES.items()
    ]
    for row in inputs:
        row.update(changes.get(row["name"], {}))
    return {"inputs": inputs}


def infer(client, body, name="echo"):
    return client.post(f"/v2/models/{name}/infer", json=body)


def test_health_and_metadata(echo):
    assert echo.get("/v2/health/live").json() == {"live": True}
    assert echo.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2", "/v2/"):
        assert echo.get(path).json()["name"] == "pipcook-deploy"
    for path in ("/v2/models/echo", "/v2/models/echo/versions/1"):
        assert echo.get(path + "/ready").json() == {"name": "echo", "ready": True}
        metadata = echo.get(path).json()
        assert metadata["platform"] == "onnx_onnxv1" and metadata["versions"] == ["1"]
        assert {"name": "string", "datatype": "BYTES", "shape": [-1, 2]} in metadata["inputs"]


def test_every_datatype_comes_back_as_it_went(echo):
    answer = infer(echo, message() | {"id": "42", "parameters": {"x": 1}})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("echo", "1", "42")
    assert {row["name"]: row["data"] for row in body["outputs"]} == {
        f"{name}_out": value for name, value in VALUES.items()
    }
    assert {row["name"]: row["datatype"] for row in body["outputs"]} == {
        f"{name}_out": SPELLED[name] for name in VALUES
    }


def test_nested_data_and_requested_outputs(echo):
    body = message(int32={"shape": [2, 2], "data": [[1, 2], [3, 4]]})
    body["outputs"] = [{"name": "int32_out", "parameters": {}}, {"name": "bool_out"}]
    rows = infer(echo, body).json()["outputs"]
    assert [row["name"] for row in rows] == ["int32_out", "bool_out"]
    assert rows[0]["shape"] == [2, 2] and rows[0]["data"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"float32": {"data": ["NaN", "1"]}}, "must be numbers"),
        ({"float32": {"data": [True, 1]}}, "must be numbers"),
        ({"float32": {"data": [1e39, 1]}}, "too large"),
        ({"float32": {"data": [None, 1]}}, "must be numbers"),
        ({"float32": {"data": [1]}}, "needs 2 elements"),
        ({"float32": {"data": [[1, 2], [3]]}}, "nested"),
        ({"float32": {"data": [[1], 2]}}, "nested"),
        ({"float32": {"data": "1,2"}}, "must be a list"),
        ({"float32": {"data": {}}}, "must be a list"),
        ({"float32": {"shape": [2]}}, "does not fit"),
        ({"float32": {"shape": [1, 3], "data": [1, 2, 3]}}, "does not fit"),
        ({"float32": {"shape": [-1, 2]}}, "whole numbers"),
        ({"float32": {"shape": [1.0, 2]}}, "whole numbers"),
        ({"float32": {"shape": None}}, "whole numbers"),
        ({"float32": {"shape": [2**62, 2]}}, "more than"),
        ({"float32": {"datatype": "FP64"}}, "must be FP32"),
        ({"float32": {"datatype": None}}, "must be FP32"),
        ({"float32": {"name": "x"}}, "unknown input 'x'"),
        ({"float32": {"name": "float64"}}, "duplicate input"),
        ({"float32": {"name": 3}}, "name"),
        ({"uint8": {"data": [256, 0]}}, "out of bounds"),
        ({"uint8": {"data": [1.0, 0]}}, "whole numbers"),
        ({"int32": {"data": [True, 0]}}, "whole numbers"),
        ({"bool": {"data": [1, 0]}}, "true or false"),
        ({"string": {"data": [1, "a"]}}, "strings"),
    ],
)
def test_wrong_tensors_get_400_with_the_reason(echo, change, reason):
    answer = infer(echo, message(**change))
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert "input" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"inputs":[]}', b'{"inputs":{}}', b'{"inputs":[1]}', b"\xff",
        b'{"inputs":[{"name":"float32","datatype":"FP32","shape":[1,2],"data":[NaN,1]}]}',
        b'{"id":1,"inputs":[]}', b"[" * 100000, b'{"inputs":[{"name":"float32"}]}',
    ],
)  # fmt: skip
def test_malformed_messages_get_400(echo, body):
    answer = echo.post("/v2/models/echo/infer", content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_missing_input_unknown_output_and_deep_nesting(echo):
    body = message()
    body["inputs"].pop()
    assert "missing input: 'string'" in infer(echo, body).json()["error"]
    assert "unknown output" in infer(echo, message() | {"outputs": [{"name": "x"}]}).json()["error"]
    deep = json.loads("[" * 500 + "]" * 500)
    assert infer(echo, message(float32={"data": deep})).status_code == 400


def test_unknown_models_routes_and_methods(echo):
    for path in ("/v2/models/x", "/v2/models/echo/versions/9", "/v2/x", "/v2/models/echo/x"):
        answer = echo.get(path)
        assert answer.status_code == 404 and "error" in answer.json(), path
    assert infer(echo, message(), name="x").status_code == 404
    answer = echo.get("/v2/models/echo/infer")
    assert answer.status_code == 405 and answer.headers["allow"] == "OPTIONS, POST"
    wrong = echo.post("/v2/models/echo/infer", content=b"{}", headers={"content-type": "text/csv"})
    assert wrong.status_code == 415


def test_infer_takes_the_models_own_tensor(colours):
    """No preprocessing: 255 stays 255, where /predict scales it to 1."""
    row = {"name": "image", "datatype": "FP32", "shape": [1, 4, 4, 3], "data": [255, 0, 51] * 16}
    outputs = infer(colours, {"inputs": [row]}, "colours").json()["outputs"]
    assert outputs == [
        {"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [255, 0, 51]}
    ]


def test_nan_and_infinity_turn_into_null(tmp_path):
    with tiny_models.client_of(tiny_models.logarithm(tmp_path)) as client:
        row = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [-1, 0, 1, 1]}
        outputs = infer(client, {"inputs": [row]}, "logarithm").json()["outputs"]
        assert outputs[0]["data"] == [None, None, 0, 0]
        answer = client.get("/predict", params={"input": "[-1, -2]"}).json()
        assert answer == {"success": True, "data": [{"outputs": {"y": [None, None]}}]}


def test_fp16_has_no_json_form(tmp_path):
    with tiny_models.client_of(tiny_models.half(tmp_path)) as client:
        row = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
        answer = infer(client, {"inputs": [row]}, "half")
        assert answer.status_code == 400 and "no JSON form" in answer.json()["error"]
