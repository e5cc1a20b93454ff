"""Requests made to take the server's time, memory or words; `fuzz` finds others by chance."""

import http.client
import json
import os
import subprocess
import sys

import httpx
import pytest

from pipcook_deploy.server.tensors import fast_instances, fast_json
from pipcook_deploy.spec import TensorSpec
from tests.server import tiny_models

MANY = ",".join(f'"{number}":1' for number in range(10_000))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A model of texts, which answers what it is asked."""
    folder = tiny_models.save(
        tmp_path_factory.mktemp("texts"),
        "texts",
        [("Identity", ("in:x",), ("out:y",), {})],
        [tiny_models.tensor("x", "string", None)],
        [tiny_models.tensor("y", "string", None)],
        task="tabular",
    )
    with tiny_models.client_of(folder) as client:
        yield client


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    """A model whose axes may both have any size."""
    folder = tiny_models.save(
        tmp_path_factory.mktemp("free"),
        "free",
        [("ReduceSum", ("in:x", "axes"), ("out:y",), {"keepdims": 0})],
        [tiny_models.tensor("x", "float32", None, None)],
        [tiny_models.tensor("y", "float32", None)],
        [("axes", tiny_models.np.array([1], tiny_models.np.int64))],
    )
    with tiny_models.client_of(folder) as client:
        yield client


def test_objects_of_many_keys_are_not_searched_key_by_key():
    numbers = (TensorSpec(name="x", dtype="float32", shape=(None, 2)),)
    assert fast_json.parse(f"{{{MANY}}}".encode()) is None
    for body in (f'{{{MANY},"instances":[[1,2]]}}', f'{{"inputs":{{{MANY},"x":[[1,2]]}}}}'):
        assert fast_instances.read(body.encode(), numbers) is None
    assert fast_instances.read(b'{"inputs":{"x":[[1,2]]},"a":1}', numbers) is not None


@pytest.mark.parametrize(
    "path", ["/v1/models/free:predict", "/v2/models/free/infer", "/invocations"]
)
def test_a_million_keys(free, path):
    keys = ",".join(f'"{number:x}":1' for number in range(900_000))
    answer = free.post(path, content=f"{{{keys}}}", headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_half_a_character_is_no_text(texts):
    for body in ('{"instances":["\\ud800"]}', '{"instances":["a"],"signature_name":"\\ud800"}'):
        for query in ("", "?nonfinite=tokens"):
            answer = texts.post(f"/v1/models/texts:predict{query}", content=body)
            assert (answer.status_code, answer.json()["error"][:20]) == (
                400,
                "the body is not JSON",
            )
    whole = texts.post(
        "/v1/models/texts:predict?nonfinite=tokens", content='{"instances":["\\ud83d\\ude00"]}'
    )
    assert whole.json() == {"predictions": ["\U0001f600"]}


@pytest.mark.parametrize("shape", [[10**9, 0], [0, 10**9], [2**63 - 1, 0]])
def test_long_tensors_of_nothing(free, shape):
    row = {"name": "x", "datatype": "FP32", "shape": shape, "data": []}
    answer = free.post("/v2/models/free/infer", json={"inputs": [row]})
    assert answer.status_code == 400
    assert "a tensor of nothing" in answer.json()["error"]
    row["shape"] = [3, 0]
    answer = free.post("/v2/models/free/infer", json={"inputs": [row]})
    assert answer.json()["outputs"][0]["data"] == [0, 0, 0]


def test_many_rows_of_nothing(free):
    rows = ",".join(["[]"] * 100_000)
    answer = free.post("/v1/models/free:predict", content=f'{{"instances":[{rows}]}}')
    assert answer.status_code == 400


def test_a_number_of_many_digits(texts):
    for top in ("0" * 9 + "9" * 20, "1" + "0" * 5000, "000000001" + "0" * 5000):
        answer = texts.post(f"/models/texts/predict?top={top}", json={"text": "a"})
        assert (answer.status_code, answer.json()["message"][:3]) == (400, "top")


def test_commands_are_short(texts):
    answer = texts.post("/v2/repository/index", content=b'{"a":"' + b"a" * 100_000 + b'"}')
    assert answer.status_code == 413


def test_a_key_that_is_there_twice(free):
    def row(number):
        return json.dumps([{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [number]}])

    body = f'{{"inputs":{row(1)},"inputs":{row(2)}}}'
    headers = {"content-type": "application/json"}
    answer = free.post("/v2/models/free/infer", content=body, headers=headers)
    assert answer.json()["outputs"][0]["data"] == [2]


def test_malformed_forms_do_not_reach_stderr(tmp_path):
    with tiny_models.serving(tiny_models.colours(tmp_path)) as server:
        headers = {"content-type": "multipart/form-data; boundary=a"}
        answer = httpx.post(f"{server.url}/predict", content=b"--b\r\n", headers=headers)
        assert answer.status_code == 400
        server.process.terminate()
        _, errors = server.process.communicate(timeout=20)
    assert "boundary" not in errors


@pytest.mark.parametrize("path", ["/nothing", "/healthz", "/v2/models/none/infer"])
def test_large_bodies_that_no_one_wants_are_answered_all_the_same(free, path):
    connection = http.client.HTTPConnection(free.base_url.host, free.base_url.port, timeout=20)
    connection.request("POST", path, b"a" * 9_000_000)
    assert connection.getresponse().status in (404, 405)
    connection.close()


def test_as_many_files_as_connections():
    code = (
        "import resource as r; from pipcook_deploy.server.access.sockets import allow_connections; "
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 1000)); allow_connections(500); print(r.getrlimit(r.RLIMIT_NOFILE)); "
        "allow_connections(5000); print(r.getrlimit(r.RLIMIT_NOFILE)); "
        "allow_connections(5); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[:3] == ["(756, 1000)", "(1000, 1000)", "(1000, 1000)"]


def test_no_one_is_told_what_is_run(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    folder = tiny_models.colours(tmp_path)
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    code = (
        "import pipcook_deploy, onnxruntime, sys; "
        "onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    )
    command = [sys.executable, "-c", code, str(folder / "model.onnx")]
    subprocess.run(command, check=True, env=environment)
    assert list(home.rglob("*")) == []
