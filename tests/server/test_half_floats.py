"""FP16 and BF16, which have no JSON form: as binary tensors, there and back."""

import json

import httpx
import numpy as np
import pytest

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.engines.onnx import OnnxEngine
from tests.server import tiny_models

LENGTH = "inference-header-content-length"
HALF = np.array([[1.5, -65504]], "<f2")
# bfloat16 is the upper half of a float32: 1.5 and -2 lose nothing.
BRAIN = np.array([[1.5, -2]], "<f4").view("<u2").reshape(1, 2, 2)[..., 1].copy()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with tiny_models.client_of(tiny_models.halves(tmp_path_factory.mktemp("m"))) as client:
        yield client


def row(name, datatype, **parameters):
    return {"name": name, "datatype": datatype, "shape": [1, 2], "parameters": parameters}


def asked(**changes):
    head = {
        "inputs": [
            row("float16", "FP16", binary_data_size=4),
            row("bfloat16", "BF16", binary_data_size=4),
        ],
        "parameters": {"binary_data_output": True},
    }
    return head | changes


def infer(client, head, *tensors) -> httpx.Response:
    text = json.dumps(head).encode()
    body = text + b"".join(tensors)
    return client.post("/v2/models/halves/infer", content=body, headers={LENGTH: str(len(text))})


def test_both_come_back_as_they_went_and_are_computed_with(client):
    answer = infer(client, asked(), HALF.tobytes(), BRAIN.tobytes())
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[LENGTH])
    outputs = json.loads(answer.content[:length])["outputs"]
    assert [(o["name"], o["datatype"], o["parameters"]["binary_data_size"]) for o in outputs] == [
        ("float16_out", "FP16", 4),
        ("bfloat16_out", "BF16", 4),
        ("sum", "FP32", 8),
    ]
    tail = answer.content[length:]
    assert tail[:8] == HALF.tobytes() + BRAIN.tobytes()
    assert np.frombuffer(tail[8:], "<f4").tolist() == [3.0, -65506.0]


def test_metadata_names_them(client):
    inputs = client.get("/v2/models/halves").json()["inputs"]
    assert [tensor["datatype"] for tensor in inputs] == ["FP16", "BF16"]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_json_is_refused_in_and_out(client, datatype):
    name = "float16" if datatype == "FP16" else "bfloat16"
    head = asked(parameters={}, outputs=[{"name": f"{name}_out"}])
    answer = infer(client, head, HALF.tobytes(), BRAIN.tobytes())
    assert answer.status_code == 400 and "no JSON form" in answer.json()["error"]
    rows = [{k: v for k, v in r.items() if k != "parameters"} for r in head["inputs"]]
    answer = client.post(
        "/v2/models/halves/infer", json={"inputs": [r | {"data": [1, 2]} for r in rows]}
    )
    assert answer.status_code == 400 and "no JSON form" in answer.json()["error"]


def test_a_wrong_length_is_refused(client):
    head = asked()
    head["inputs"][1]["parameters"]["binary_data_size"] = 3
    answer = infer(client, head, HALF.tobytes(), BRAIN.tobytes()[:3])
    assert answer.status_code == 400 and "takes 4 bytes, not 3" in answer.json()["error"]


def test_text_beside_bfloat16_is_refused_when_it_is_loaded(tmp_path):
    names = ("bfloat16", "string")
    folder = tiny_models.save(
        tmp_path,
        "mixed",
        [("Identity", (f"in:{n}",), (f"out:{n}_out",), {}) for n in names],
        [tiny_models.tensor(n, n, None) for n in names],
        [tiny_models.tensor(f"{n}_out", n, None) for n in names],
    )
    artifact = Artifact.from_json(json.loads((folder / "artifact.json").read_text()))
    with pytest.raises(ServerError, match="both bfloat16 and text"):
        OnnxEngine(artifact)
