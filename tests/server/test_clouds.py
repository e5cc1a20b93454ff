"""Vertex AI and Cloud Run by environment, Function Compute's event functions, SageMaker's argument."""

import base64
import io
import json
import signal
import socket

import httpx
import pytest
from PIL import Image

from pipcook_deploy.errors import UsageError
from pipcook_deploy.server.listen import address
from pipcook_deploy.server.protocols.clouds import environment_routes
from pipcook_deploy.server.routes import ROUTES
from tests.server import tiny_models

HEALTH, PREDICT = "/v1/endpoints/7/deployedModels/8", "/v1/endpoints/7/deployedModels/8:predict"
RED = [[[1.0, 0.0, 0.0]] * 4] * 4


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def vertex(tmp_path_factory):
    folder = tiny_models.colours(tmp_path_factory.mktemp("m"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIP_HEALTH_ROUTE", HEALTH)
        patch.setenv("AIP_PREDICT_ROUTE", PREDICT)
        # `serve` is what SageMaker adds to an image's entrypoint.
        with tiny_models.client_of(folder, "--host", "127.0.0.1", "serve") as client:
            yield client


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tiny_models.words(tmp_path_factory.mktemp("m"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIP_HEALTH_ROUTE", "/healthz")
        patch.setenv("AIP_PREDICT_ROUTE", "/predict")
        with tiny_models.client_of(folder, "--host", "127.0.0.1") as client:
            yield client


@pytest.mark.parametrize(
    ("environ", "host", "port", "expected"),
    [
        ({}, None, None, ("127.0.0.1", 9091)),
        ({"PORT": "8080"}, None, None, ("0.0.0.0", 8080)),
        ({"PORT": "8080", "AIP_HTTP_PORT": "7080"}, None, None, ("0.0.0.0", 7080)),
        ({"AIP_HEALTH_ROUTE": "/health"}, None, None, ("0.0.0.0", 9091)),
        ({"PORT": ""}, None, None, ("127.0.0.1", 9091)),
        ({"PORT": "8080"}, "127.0.0.1", None, ("127.0.0.1", 8080)),
        ({"PORT": "8080"}, "::", 0, ("::", 0)),
        ({"PORT": "no port"}, None, 81, ("0.0.0.0", 81)),
    ],
)
def test_where_to_listen(environ, host, port, expected):
    assert address(host, port, environ) == expected


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "٣", "9" * 30])
def test_ports_that_are_none(port):
    with pytest.raises(UsageError, match="PORT"):
        address(None, None, {"PORT": port})


@pytest.mark.parametrize("path", ["predict", "/a?b", "/{name}"])
def test_routes_that_are_none(path):
    with pytest.raises(UsageError, match="AIP_PREDICT_ROUTE"):
        environment_routes({"AIP_PREDICT_ROUTE": path}, ROUTES)


def test_vertex_health(vertex):
    assert vertex.get(HEALTH).status_code == 200
    assert vertex.get("/v1/models/colours").status_code == 200


def test_vertex_tensors_images_and_objects(vertex):
    image = {"b64": base64.b64encode(png("red")).decode()}
    for instance in (RED, {"image": RED}, image, {"image": image}):
        answer = vertex.post(PREDICT, json={"instances": [instance], "parameters": {}})
        assert answer.json() == {"predictions": [[1.0, 0.0, 0.0]]}, answer.text
        body = {"instances": [instance] * 2, "parameters": {"top": 2}}
        predictions = vertex.post(PREDICT, json=body).json()["predictions"]
        assert (
            predictions
            == [
                [
                    {"id": 0, "category": "red", "score": 1.0},
                    {"id": 1, "category": "green", "score": 0.0},
                ]
            ]
            * 2
        )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "an object with instances"),
        ({"inputs": [RED]}, "an object with instances"),
        ({"instances": []}, "not empty"),
        ({"instances": [{"b64": "AAAA"}]}, "PNG"),
        ({"instances": [RED], "parameters": {"confidenceThreshold": 0.5}}, "top"),
        ({"instances": [RED], "parameters": [3]}, "top"),
        ({"instances": [RED], "parameters": {"top": -1}}, "up to 1000"),
    ],
)
def test_vertex_errors(vertex, body, reason):
    answer = vertex.post(PREDICT, json=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]


def test_vertex_on_a_route_that_is_taken(words):
    assert words.get("/healthz").status_code == 200
    answer = words.post("/predict", json={"instances": ["good", "bad"]})
    assert answer.json() == {"predictions": [[3, 0, 1, 0], [3, 0, 0, 1]]}
    answer = words.post("/predict", json={"instances": [[2, 2, 3, 3]]})
    assert answer.json() == {"predictions": [[0, 0, 2, 2]]}
    assert "error" in words.post("/predict", json={"inputs": [[2, 2, 3, 3]]}).json()
    answer = words.post("/predict", content="good", headers={"content-type": "text/plain"})
    assert answer.json()["success"] is True


def test_function_compute(vertex):
    octets = {"content-type": "application/octet-stream", "x-fc-request-id": "fc-1-2"}
    answer = vertex.post("/initialize", headers=octets)
    assert (answer.status_code, answer.headers["x-fc-status"]) == (200, "200")
    assert answer.headers["x-request-id"] == "fc-1-2"
    event = b'\n {"instances": ' + json.dumps([RED]).encode() + b"}"
    answer = vertex.post("/invoke", content=event, headers=octets)
    assert answer.json() == {"predictions": [[1.0, 0.0, 0.0]]}
    assert (answer.headers["x-fc-status"], answer.headers["x-request-id"]) == ("200", "fc-1-2")
    answer = vertex.post("/invoke", content=png("red"), headers=octets)
    assert answer.json()["predictions"][0][0]["category"] == "red"
    answer = vertex.post("/invoke", content=b"1,2", headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.headers["x-fc-status"]) == (400, "404")
    for event in (b"{}", b"what", b""):
        answer = vertex.post("/invoke", content=event, headers=octets)
        assert (answer.status_code, answer.headers["x-fc-status"]) == (400, "404")
        assert answer.json()["message"]


def test_draining_is_told_to_every_platform(tmp_path):
    """A request that does not end keeps the server draining."""
    with tiny_models.serving(tiny_models.colours(tmp_path)) as server:
        open_request = b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"
        with (
            socket.create_connection(server.address) as held,
            httpx.Client(base_url=server.url) as client,
        ):
            held.sendall(open_request)
            assert client.get("/ping").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            while (answer := client.get("/ping")).status_code == 200:
                pass
            assert answer.status_code == 503
            answer = client.get("/v1/models/colours")
            assert answer.status_code == 503
            assert answer.json()["model_version_status"][0]["state"] == "UNLOADING"
            held.sendall(b'{"a": 1}\n')
            assert held.recv(100).startswith(b"HTTP/1.1 4")
