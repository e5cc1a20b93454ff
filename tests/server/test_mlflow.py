"""/invocations in MLflow's and SageMaker's forms."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.server import cloud_models, tiny_models

FORMS = "instances, inputs, dataframe_split, dataframe_records, input_data"
X = [[1.0, 10.0], [100.0, 1000.0]]


def server_of(model):
    @pytest.fixture(scope="module")
    def client(tmp_path_factory):
        with tiny_models.client_of(model(tmp_path_factory.mktemp("m"))) as client:
            yield client

    return client


colours = server_of(tiny_models.colours)
person = server_of(cloud_models.person)
logarithm = server_of(tiny_models.logarithm)
words = server_of(tiny_models.words)


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def send(client, content, media, **headers):
    return client.post("/invocations", content=content, headers={"content-type": media} | headers)


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error_code", "message"}
    return answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": X},
        {"instances": X, "params": {}},
        {"instances": [{"x": row} for row in X]},
        {"inputs": X},
        {"inputs": {"x": X}},
        {"dataframe_split": {"data": X}},
        {"dataframe_split": {"columns": ["a", "b"], "index": [7, 8], "data": X}},
        {"dataframe_split": {"columns": [0, 1], "data": X}},
        {"dataframe_records": [{"a": row[0], "b": row[1]} for row in X]},
        {"dataframe_records": [{"x": row} for row in X]},
        {"input_data": {"columns": ["a", "b"], "index": [0, 1], "data": X}},
        {"input_data": X},
    ],
)
@pytest.mark.parametrize("path", ["/invocations", "/score"])
def test_every_form_of_json_is_answered_alike(logarithm, body, path):
    answer = logarithm.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["predictions"]
    assert np.allclose(answer.json()["predictions"], np.log(X))


def test_columns_are_the_inputs_by_name(person):
    rows = [
        {"visits": 3, "age": 20.5, "city": "Bonn", "member": True},
        {"visits": -4, "age": 30.0, "city": 'Köln, "am Rhein"', "member": False},
    ]
    expected = [
        {
            "age_out": [row["age"]],
            "city_out": [row["city"]],
            "member_out": row["member"],
            "visits_out": row["visits"],
        }
        for row in rows
    ]
    columns = list(rows[0])
    data = [[row[column] for column in columns] for row in rows]
    table = 'visits,age,city,member\n3,20.5,Bonn,True\n-4,30,"Köln, ""am Rhein""",false\n'
    for answer in (
        person.post("/invocations", json={"dataframe_records": rows}),
        person.post("/invocations", json={"inputs": rows}),
        person.post("/invocations", json={"dataframe_split": {"columns": columns, "data": data}}),
        send(person, table.encode(), "text/csv"),
        send(
            person, table.replace("\n", "\r\n").encode(), "text/csv; charset=utf-8; header=present"
        ),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"predictions": expected}
    missing = {"dataframe_records": [{"age": 1.0}]}
    reason = refused(person.post("/invocations", json=missing))
    assert "'age', 'city', 'member', 'visits'; the table has 'age'" in reason
    reason = refused(send(person, b"visits,age,city,member\n3.5,1,B,true\n", "text/csv"))
    assert "'3.5' is no int32" in reason


def test_csv_with_and_without_a_header(logarithm):
    plain = b"1,10\n100, 1e3\n"
    for content, media in (
        (plain, "text/csv"),
        (b"a,b\n" + plain, "text/csv"),
        (b"\n" + plain + b"\n", "text/csv; header=absent"),
        (b"5,6\n" + plain, 'text/csv; header="present"'),
    ):
        answer = send(logarithm, content, media)
        assert np.allclose(answer.json()["predictions"], np.log(X)), answer.text
    answer = send(logarithm, plain, "text/csv", accept="text/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    table = np.loadtxt(io.StringIO(answer.text), delimiter=",")
    assert np.allclose(table, np.log(X))
    assert all(len(cell) < 12 for cell in answer.text.replace("\n", ",").split(","))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no rows"),
        (b"a,b\n", "no rows"),
        (b"1,2\n3\n", "must be a list of 2 cells"),
        (b"1,x\n3,4\nx,1\n", "'x' is no float32"),
        (b"1,nan\n", "no number that JSON has"),
        (b"1,1_0\n", "the table has no rows"),
        (b'"1,2\n', "not CSV"),
        (b"\xff,1\n", "not CSV"),
        (b"1,2,3\n", "3 values a row do not make up shape [2]"),
    ],
)
def test_csv_that_does_not_fit(logarithm, content, reason):
    assert reason in refused(send(logarithm, content, "text/csv"))


def test_json_lines(logarithm):
    lines = b'[1, 10]\n{"x": [100, 1000]}\n'
    assert "either all" in refused(send(logarithm, lines, "application/jsonlines"))
    lines = b"[1, 10]\n\n[100, 1000]"
    for media in ("application/jsonlines", "application/x-ndjson"):
        answer = send(logarithm, lines, media, accept="application/jsonlines")
        assert answer.headers["content-type"] == "application/jsonlines"
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert np.allclose(rows, np.log(X))
    assert "a line is not JSON" in refused(send(logarithm, b"[1, 2]\n[", media))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|u1"])
def test_npy_as_numpy_writes_it(logarithm, version, dtype):
    array = np.asfortranarray(np.array([[1, 10], [100, 100]], dtype))
    for each in (array, np.ascontiguousarray(array)):
        file = io.BytesIO()
        np.lib.format.write_array(file, each, version)
        answer = send(logarithm, file.getvalue(), "application/x-npy")
        assert np.allclose(answer.json()["predictions"], np.log(array.astype("f8"))), answer.text


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no .npy file"),
        (npy(np.ones((1, 2), "f4"))[:-1], "7 bytes of data"),
        (npy(np.ones((1, 2), "f4")).replace(b"(1, 2)", b"(9, 2)"), "says shape [9, 2]"),
        (npy(np.ones((1, 2), "f4")).replace(b"(1, 2)", b"(1,-2)"), "no array of numbers"),
        (npy(np.ones((1, 2), "f4")).replace(b"<f4", b"<f5"), "type <f5"),
        (npy(np.array([[1, None]])), "no array of numbers"),
        (npy(np.array([["a", "b"]])), "no array of numbers"),
        (npy(np.ones((1, 3), "f4")), "shape [-1, 2], not [1, 3]"),
        (npy(np.ones(2, "f4")), "shape [-1, 2], not [2]"),
        (npy(np.ones((0, 2), "f4")), "not [0, 2]"),
    ],
)
def test_npy_that_does_not_fit(logarithm, data, reason):
    assert reason in refused(send(logarithm, data, "application/x-npy"))


def test_npy_of_another_kind_of_number(words):
    reason = refused(send(words, npy(np.ones((1, 4), "f4")), "application/x-npy"))
    assert "takes int32, not float32" in reason
    answer = send(words, npy(np.array([[2, 2, 3, 0]])), "application/x-npy")
    assert answer.json()["predictions"] == [[1, 0, 2, 1]]


def test_images_get_labels(colours):
    for media in ("image/png", "application/x-image"):
        [ranked] = send(colours, png("red"), media).json()["predictions"]
        assert [row["category"] for row in ranked] == ["red", "green", "blue"]
        assert ranked[0] == {"id": 0, "category": "red", "score": 1.0}
    answer = colours.post(
        "/invocations?top=1",
        content=png("blue"),
        headers={"content-type": "image/png", "accept": "text/csv"},
    )
    assert answer.text == "blue,1.0\n"
    answer = send(colours, png("blue"), "image/png", accept="application/jsonlines")
    assert json.loads(answer.text)[0]["category"] == "blue"
    assert "PNG" in refused(send(colours, b"no image", "image/png"))
    assert "damaged" in refused(send(colours, png("red")[:50], "image/png"))


def test_images_in_json_and_csv(colours):
    sent = base64.b64encode(png("blue")).decode()
    for body in (
        {"instances": [{"b64": sent}]},
        {"dataframe_split": {"columns": ["image"], "data": [[sent]]}},
        {"dataframe_records": [{"picture": {"b64": sent}}]},
    ):
        answer = colours.post("/invocations", json=body | {"params": {"top": 1}})
        assert answer.json() == {"predictions": [[{"id": 2, "category": "blue", "score": 1.0}]]}, (
            answer.text
        )
    answer = send(colours, f"image\n{sent}\n".encode(), "text/csv")
    assert answer.json()["predictions"] == [[0.0, 0.0, 1.0]]
    pixels = ",".join(["0.5"] * 48).encode()
    answer = send(colours, pixels, "text/csv")
    assert answer.json()["predictions"] == [[0.5, 0.5, 0.5]]


def test_texts(words):
    for body in (
        {"instances": ["good good", "bad"]},
        {"inputs": {"ids": ["good good", "bad"]}},
        {"dataframe_split": {"columns": ["text"], "data": [["good good"], ["bad"]]}},
    ):
        answer = words.post("/invocations", json=body)
        assert answer.json() == {"predictions": [[2, 0, 2, 0], [3, 0, 0, 1]]}, answer.text
    answer = send(words, b"good good\nbad\n", "text/csv; header=absent")
    assert answer.json() == {"predictions": [[2, 0, 2, 0], [3, 0, 0, 1]]}
    reason = refused(words.post("/invocations", json={"instances": ["good", 3]}))
    assert "text" in reason
    many = refused(words.post("/invocations", json={"instances": ["good"] * 65}))
    assert "at most 64" in many


def test_tensors_of_the_open_inference_protocol(logarithm):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 1]}]}
    answer = logarithm.post("/invocations", json=body).json()
    assert answer["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]}
    ]
    body["inputs"][0]["datatype"] = "FP64"
    assert "datatype must be FP32" in refused(logarithm.post("/invocations", json=body))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, f"exactly one of {FORMS}; it has nothing"),
        ({"data": X}, "it has 'data'"),
        ({"instances": X, "inputs": X}, "it has 'instances', 'inputs'"),
        (X, "must be a JSON object"),
        ({"instances": X, "params": {"temperature": 1}}, '{"top": NUMBER}'),
        ({"instances": X, "params": {"top": 0.5}}, "top must be a number"),
        ({"dataframe_split": X}, "a split data frame is"),
        ({"dataframe_split": {"columns": ["a"], "data": X}}, "must be a list of 1 cells"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": X}}, "different names"),
        ({"dataframe_split": {"data": [[]]}}, "one or more cells"),
        ({"dataframe_split": {"data": [[1, None]]}}, "must be numbers"),
        ({"dataframe_records": [{"a": 1, "b": 2}, {"a": 1}]}, "not all the same columns"),
        ({"dataframe_records": {}}, "list of objects"),
    ],
)
def test_json_that_does_not_fit(logarithm, body, reason):
    assert reason in refused(logarithm.post("/invocations", json=body))


def test_content_types_and_accept(logarithm):
    body = json.dumps({"instances": X})
    for media in ("application/octet-stream", "application/x-www-form-urlencoded"):
        reason = refused(send(logarithm, body, media), 415)
        assert (
            "application/json, text/csv, application/jsonlines, application/x-npy, image/*"
            in reason
        )
    for accept in ("*/*", "application/json", "text/html, application/*", ""):
        answer = send(logarithm, body, "application/json", accept=accept)
        assert answer.headers["content-type"] == "application/json", accept
    assert "text/csv" in refused(send(logarithm, body, "application/json", accept="text/html"), 406)
    answer = send(logarithm, body, "application/json", accept="application/json;q=0, text/csv")
    assert answer.headers["content-type"].startswith("text/csv")


def test_sagemakers_headers(logarithm):
    headers = {"x-amzn-sagemaker-custom-attributes": "trace=7"}
    answer = logarithm.post("/invocations", json={"instances": X}, headers=headers)
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7"
    for name, status in (("logarithm.tar.gz", 200), ("logarithm", 200), ("other.tar.gz", 404)):
        headers = {"x-amzn-sagemaker-target-model": name}
        answer = logarithm.post("/invocations", json={"instances": X}, headers=headers)
        assert answer.status_code == status
    assert answer.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_health_and_version(logarithm):
    for path in ("/ping", "/health"):
        answer = logarithm.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert logarithm.get("/version").text[0].isdigit()
