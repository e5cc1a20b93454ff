"""TF Serving's REST API, by the examples of its documentation."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.server import cloud_models, tiny_models

PREDICT = "/v1/models/half_plus_three:predict"
ROWS = [
    {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
    {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
]
COLUMNS = {
    "tag": ["foo", "bar"],
    "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]],
    "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]],
}


def server_of(model):
    @pytest.fixture(scope="module")
    def client(tmp_path_factory):
        with tiny_models.client_of(model(tmp_path_factory.mktemp("m"))) as client:
            yield client

    return client


half = server_of(cloud_models.half_plus_three)
sensors = server_of(cloud_models.sensors)
colours = server_of(tiny_models.colours)
logarithm = server_of(tiny_models.logarithm)


def png(colour, size=8):
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, "PNG")
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    return answer.json()["error"]


def test_the_examples_of_the_documentation(half):
    for path in ("", "/versions/123"):
        answer = half.get(f"/v1/models/half_plus_three{path}")
        assert answer.json() == {
            "model_version_status": [
                {
                    "version": "123",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }
        # curl -d names a form's content type.
        answer = half.post(
            f"/v1/models/half_plus_three{path}:predict",
            content=b'{"instances": [1.0,2.0,5.0]}',
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        assert answer.json() == {"predictions": [3.5, 4.0, 5.5]}
        assert answer.text == '{"predictions":[3.5,4.0,5.5]}'
    regress = {"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}
    answer = half.post("/v1/models/half_plus_three:regress", json=regress)
    assert answer.json() == {"results": [3.5, 4.0]}
    assert "half" in refused(half.post("/v1/models/half:predict", json={"instances": [1.0]}), 404)


def test_rows_and_columns_of_one_input(half):
    for body in (
        {"instances": [1, 2.0]},
        {"instances": [{"x": 1.0}, {"x": 2.0}]},
        {"instances": [1.0, 2.0], "signature_name": "serving_default"},
        {"signature_name": "", "instances": [1.0, 2.0]},
    ):
        assert half.post(PREDICT, json=body).json() == {"predictions": [3.5, 4.0]}, body
    for body in ({"inputs": [1.0, 2.0]}, {"inputs": {"x": [1, 2]}}):
        assert half.post(PREDICT, json=body).json() == {"outputs": [3.5, 4.0]}, body


def test_metadata_as_the_message_is_printed(half):
    document = half.get("/v1/models/half_plus_three/versions/123/metadata").json()
    assert document["model_spec"] == {
        "name": "half_plus_three",
        "signature_name": "",
        "version": "123",
    }
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "tensorflow/serving/regress"}
    assert signatures["serving_default"]["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "x:0",
    }
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


def test_several_inputs_and_outputs(sensors):
    answer = sensors.post("/v1/models/sensors:predict", json={"instances": ROWS})
    foo = {"b64": base64.b64encode(b"foo").decode()}
    assert answer.json()["predictions"][0] == {
        "tag_text": "foo",
        "tag_bytes": foo,
        "signal": [1, 2, 3, 4, 5],
        "sensor": [[1.0, 2.0], [3.0, 4.0]],
    }
    answer = sensors.post("/v1/models/sensors:predict", json={"inputs": COLUMNS})
    assert answer.json()["outputs"]["tag_bytes"][0] == foo
    assert answer.json()["outputs"]["sensor"] == COLUMNS["sensor"]
    sent = [ROWS[0] | {"tag": {"b64": base64.b64encode("grün".encode()).decode().rstrip("=")}}]
    answer = sensors.post("/v1/models/sensors:predict", json={"instances": sent})
    assert answer.json()["predictions"][0]["tag_text"] == "grün"


def test_a_signature_with_fewer_outputs(sensors):
    body = {"instances": ROWS, "signature_name": "tags"}
    for path in ("/v1/models/sensors:predict", "/invocations"):
        assert sensors.post(path, json=body).json() == {"predictions": ["foo", "bar"]}


def test_context_is_of_every_example(sensors):
    body = {
        "context": {"tag": "all"},
        "examples": [{"signal": [1, 2, 3, 4, 5], "sensor": [1, 2, 3, 4]}] * 2,
    }
    reason = refused(sensors.post("/v1/models/sensors:regress", json=body))
    assert "'tag_text'" in reason and "regress needs one number" in reason
    body["examples"][0]["tag"] = "one"
    assert "not in both" in refused(sensors.post("/v1/models/sensors:regress", json=body))


def test_classify_gives_every_label_in_the_models_order(colours):
    red = [[[1.0, 0, 0]] * 4] * 4
    for image in (red, np.ravel(red).tolist(), png("red")):
        body = {"examples": [{"image": image}]}
        [classes] = colours.post("/v1/models/colours:classify", json=body).json()["results"]
        assert [label for label, _ in classes] == ["red", "green", "blue"]
        assert [score for _, score in classes] == pytest.approx([1, 0, 0], abs=0.01)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [png("red"), png("blue")]},
        {"instances": [{"image": png("red")}, {"image": png("blue")}]},
        {"inputs": [png("red"), png("blue")]},
        {"inputs": {"image": [png("red"), png("blue")]}},
    ],
)
def test_images_go_through_the_declared_preprocessing(colours, body):
    answer = colours.post("/v1/models/colours:predict", json=body).json()
    [rows] = answer.values()
    assert np.allclose(rows, [[1, 0, 0], [0, 0, 1]], atol=0.01)
    assert list(answer) == ["predictions" if "instances" in body else "outputs"]


def test_numbers_are_the_models_own_tensors(colours):
    image = np.random.default_rng(0).random((3, 4, 4, 3), dtype=np.float32)
    answer = colours.post("/v1/models/colours:predict", json={"instances": image.tolist()})
    assert np.allclose(answer.json()["predictions"], image.mean(axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1.0], "inputs": [1.0]}, "only one of"),
        ({"instances": []}, "not empty"),
        ({"instances": 3}, "must be a list"),
        ({"instances": [[1.0], [2.0, 3.0]]}, "equally long"),
        ({"instances": [[1.0]]}, "shape [1, 1], not [-1]"),
        ({"instances": ["1.0"]}, "must be numbers"),
        ({"instances": [True]}, "must be numbers"),
        ({"instances": [None]}, "must be numbers"),
        ({"instances": [1e39]}, "too large"),
        ({"instances": [10**400]}, "not JSON"),
        ({"instances": [{"b64": "AA=="}]}, "preprocessing"),
        ({"instances": [{"y": 1.0}]}, "takes 'x'; the object has 'y'"),
        ({"instances": [1.0, {"x": 1.0}]}, "either all"),
        ({"instances": [{"x": 1.0}, 1.0]}, "either all"),
        ({"inputs": {}}, "the object has nothing"),
        ({"inputs": 1.0}, "shape [], not [-1]"),
        ({"instances": [1.0], "signature_name": "nope"}, "not found in signature def"),
        ({"instances": [1.0], "signature_name": "other"}, "was not converted"),
        ({"instances": [1.0], "signature_name": 3}, "must be a string"),
        ([1.0], "must be a JSON object"),
    ],
)
def test_what_is_wrong_is_said(half, body, reason):
    assert reason in refused(half.post(PREDICT, content=json.dumps(body)))


def test_text_that_is_no_text(sensors):
    rows = [ROWS[0] | {"tag": {"b64": "/w=="}}]
    reason = refused(sensors.post("/v1/models/sensors:predict", json={"instances": rows}))
    assert "not UTF-8" in reason
    rows = [ROWS[0] | {"tag": {"b64": "???"}}]
    reason = refused(sensors.post("/v1/models/sensors:predict", json={"instances": rows}))
    assert "not base64" in reason
    reason = refused(sensors.post("/v1/models/sensors:predict", json={"instances": [[1]]}))
    assert "'tag', 'signal', 'sensor'" in reason


def test_ragged_rows_that_the_first_elements_do_not_tell(logarithm):
    for rows in ("[[1,2],[3]]", "[[1,2],3]", "[[1,2],[3,[4]]]", "[[1],[2,3]]", "[[1,2],[]]"):
        body = f'{{"instances": {rows}}}'
        answer = logarithm.post("/v1/models/logarithm:predict", content=body)
        assert answer.status_code == 400, (rows, answer.text)


def test_numbers_that_are_not_finite(logarithm):
    path = "/v1/models/logarithm:predict"
    body = {"instances": [[0.0, -1.0], [1.0, 0.1]]}
    assert logarithm.post(path, json=body).json()["predictions"][0] == [None, None]
    answer = logarithm.post(path, json=body, headers={"x-json-nonfinite": "tokens"})
    assert answer.text.startswith('{"predictions":[[-Infinity,NaN],[0.0,-2.302585')
    same = logarithm.post(path, json=body).json()["predictions"][1][1]
    assert answer.json()["predictions"][1][1] == same  # no more digits than without tokens
    sent = b'{"instances": [[Infinity, 1.0], [NaN, -Infinity]]}'
    assert "not JSON" in refused(logarithm.post(path, content=sent))
    answer = logarithm.post(f"{path}?nonfinite=tokens", content=sent)
    assert answer.text == '{"predictions":[[Infinity,0.0],[NaN,NaN]]}'
    assert "must be tokens" in refused(logarithm.post(f"{path}?nonfinite=yes", content=sent))
    deep = b"[" * 100_000
    assert "not JSON" in refused(logarithm.post(f"{path}?nonfinite=tokens", content=deep))


def test_a_fixed_batch_size_takes_any_number_of_rows(tmp_path):
    image = np.random.default_rng(0).random((5, 4, 4, 3), dtype=np.float32)
    with tiny_models.client_of(tiny_models.colours(tmp_path, batch=2)) as client:
        path = "/v1/models/colours:predict"
        answer = client.post(path, json={"instances": image.tolist()})
        assert np.allclose(answer.json()["predictions"], image.mean(axis=(1, 2)), atol=1e-6)
        reason = refused(client.post(path, json={"inputs": image.tolist()}))
        assert "shape [5, 4, 4, 3], not [2, 4, 4, 3]" in reason
        reason = refused(client.post(path, json={"instances": [image[0].tolist()] * 65}))
        assert "at most 64" in reason


def test_paths_and_methods(half):
    assert half.get("/v1/models").json() == {"models": ["half_plus_three"]}
    assert "9" in refused(half.get("/v1/models/half_plus_three/versions/9"), 404)
    assert "label" in refused(half.get("/v1/models/half_plus_three/labels/canary"), 404)
    assert half.get("/v1/models/half_plus_three/labels/stable").status_code == 200
    assert "POST" in refused(half.get(PREDICT), 405)
    refused(half.post("/v1/models/half_plus_three:guess", json={}), 405)
    refused(half.post("/v1/else", json={}), 404)
