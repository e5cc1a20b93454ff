"""The same image gets the same answer, bit by bit, from verification's path in Python and from the server."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.preprocess.execute import Pipeline
from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
from tests.server import tiny_models
from tests.server.engine_cases import images, pictures, served


# The second takes so long that it is run by threads.
@pytest.fixture(scope="module", params=[8, 96], ids=["tiny", "larger"])
def server(request, tmp_path_factory):
    folder = pictures(tmp_path_factory.mktemp("m"), channels=request.param)
    with tiny_models.serving(folder) as running, httpx.Client(base_url=running.url) as client:
        yield served(folder), client


def infer(client, batch):
    """Binary tensors in and out."""
    head = {
        "inputs": [
            {
                "name": "image",
                "shape": list(batch.shape),
                "datatype": "FP32",
                "parameters": {"binary_data_size": batch.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    answer = client.post(
        "/v2/models/pictures/infer",
        content=text + batch.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    return np.frombuffer(answer.content[length:], np.float32).reshape(output["shape"])


def alone(model, batch):
    """One by one, as verification runs an artifact."""
    runtime = OnnxRuntime()
    rows = [runtime.run_artifact(model.artifact, {"image": row[None]}) for row in batch]
    return np.concatenate([row["scores"] for row in rows])


def same(found, expected):
    assert found.shape == expected.shape and found.tobytes() == expected.tobytes()


def test_a_tensor(server):
    model, client = server
    for row in images(3)["image"]:
        same(infer(client, row[None]), alone(model, row[None]))


def test_tensors_that_come_at_once(server):
    """Whatever is computed together."""
    model, client = server
    batch = images(24)["image"]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda row: infer(client, row[None]), batch))
    same(np.concatenate(found), alone(model, batch))


def test_a_batch_of_one_request(server):
    model, client = server
    batch = images(6)["image"]
    same(
        infer(client, batch), OnnxRuntime().run_artifact(model.artifact, {"image": batch})["scores"]
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_encoded_image(server, kind):
    """JSON carries each score to its last bit."""
    model, client = server
    pixels = np.random.default_rng(3).integers(0, 256, (40, 31, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, kind)
    image = Pipeline(model.spec.preprocessing["image"])(encoded.getvalue())
    (expected,) = alone(model, image[None])
    sent = {"content": encoded.getvalue(), "headers": {"content-type": f"image/{kind.lower()}"}}
    answer = client.post("/predict?top=10", **sent)
    assert answer.status_code == 200, answer.text
    (first,) = answer.json()["data"]
    found = {row["id"]: row["score"] for row in first["top"]}
    assert found == {place: float(score) for place, score in enumerate(expected)}


@pytest.mark.parametrize("engine", ["openvino", "auto"])
def test_another_engine_answers_nearly_the_same(engine, tmp_path):
    """And to any batch."""
    pytest.importorskip("openvino")
    folder = pictures(tmp_path, channels=8)
    with tiny_models.client_of(folder, "--engine", engine) as client:
        for count in (1, 3):
            batch = images(count)["image"]
            np.testing.assert_allclose(
                infer(client, batch), alone(served(folder), batch), rtol=1e-5, atol=1e-6
            )
