"""Pipcook 2's /predict: images, texts, numbers, and what each refuses."""

import io

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from pydantic import TypeAdapter

from pipcook_deploy.preprocess.execute import prepare_batch
from pipcook_deploy.preprocess.operations import Operation
from tests.server import tiny_models


def png(colour, size=(20, 10)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 17, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def post(client, *images, field="image", **params):
    files = [(field, (f"{i}.png", data)) for i, data in enumerate(images)]
    return client.post("/predict", files=files, params=params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.colours(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def colours(folder):
    with tiny_models.client_of(folder, "--max-pixels", "100000") as client:
        yield client


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    with tiny_models.client_of(tiny_models.words(tmp_path_factory.mktemp("m"))) as client:
        yield client


def test_images_get_id_category_and_score(colours):
    answer = post(colours, png((200, 10, 60)), png((0, 0, 255)))
    assert answer.status_code == 200
    first, second = answer.json()["data"]
    assert (first["id"], first["category"]) == (0, "red")
    assert first["score"] == pytest.approx(200 / 255, abs=1e-6)
    assert (second["id"], second["category"]) == (2, "blue")
    assert list(answer.json()) == ["success", "data"] and list(first) == ["id", "category", "score"]


def test_the_servers_answer_is_that_of_python_to_the_bit(colours, folder):
    images = [noise(seed) for seed in range(5)]
    operations = TypeAdapter(tuple[Operation, ...]).validate_python(tiny_models.IMAGE)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    expected = session.run(None, {"in:image": prepare_batch(operations, images)})[0]
    for row, item in zip(expected, post(colours, *images, top=3).json()["data"], strict=True):
        scores = {score["id"]: score["score"] for score in item["top"]}
        assert [scores[i] for i in range(3)] == row.tolist()


def test_top_is_sorted(colours):
    top = post(colours, png((200, 10, 60)), top=2).json()["data"][0]["top"]
    assert [score["category"] for score in top] == ["red", "blue"]


@pytest.mark.parametrize("top", ["0", "x", "-1", "1001", "9" * 400, "٣"])
def test_top_must_be_a_number(colours, top):
    assert post(colours, png((0, 0, 0)), top=top).status_code == 400


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_what_post_refuses(colours):
    cases = [
        (post(colours, b"no image"), 400, "not a PNG"),
        (post(colours, noise(0)[:300]), 400, "damaged"),
        (post(colours, png((1, 2, 3), (400, 300))), 400, "pixels"),
        (post(colours, png((1, 2, 3)), field="file"), 400, "no file available"),
        (post(colours, *[png((0, 0, 0))] * 65), 400, "at most 64"),
        (post(colours, *[png((0, 0, 0))] * 90), 400, "parts"),
        (colours.post("/predict", json={}), 400, "one of image"),
        (colours.post("/predict", content="a=b", headers=FORM), 415, "multipart"),
        (colours.post("/predict"), 415, "multipart"),
        (colours.get("/predict"), 400, "no input available"),
        (colours.get("/predict", params={"input": "a"}), 400, "takes images"),
    ]
    for answer, status, reason in cases:
        assert answer.status_code == status, answer.text
        assert answer.json()["success"] is False and reason in answer.json()["message"]


HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", HEAD + b"x\r\n--b--\r\n"),
        ("multipart/form-data; boundary=", b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"garbage"),
        ("multipart/form-data; boundary=b", HEAD + b"never ends"),
        ("multipart/form-data; boundary=b", b"--b\r\nno colon\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\n" + b"A: b\r\n" * 5000 + b"\r\nx\r\n--b--\r\n",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nno name\r\n--b--\r\n"),
        ("multipart/form-data; boundary=" + "b" * 5000, HEAD),
    ],
)
def test_malformed_forms_get_400(colours, content_type, body):
    answer = colours.post("/predict", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text
    assert answer.json()["success"] is False


def test_texts(words):
    params = {"input": ["Good, good food", "bad", ""]}
    rows = words.get("/predict", params=params).json()["data"]
    assert [row["category"] for row in rows] == ["good", "padding", "padding"]
    assert [row["score"] for row in rows] == [2, 3, 4]
    assert "takes text" in post(words, b"x").json()["message"]
    assert words.get("/predict?input=%ff").status_code == 400
    assert words.get("/predict", params={"input": ["a"] * 65}).status_code == 400


def test_without_labels_the_category_is_the_index(tmp_path):
    folder = tiny_models.logarithm(tmp_path, task="text-classification")
    with tiny_models.client_of(folder) as client:
        answer = client.get("/predict", params={"input": "[1, 3]"}).json()["data"][0]
        assert (answer["id"], answer["category"]) == (1, "1")
        for wrong in (
            "text",
            "[1, 2, 3]",
            '[1, "a"]',
            "[[1], 2]",
            "{}",
            "null",
            '["NaN", "1"]',
            "[null, 1]",
        ):
            assert client.get("/predict", params={"input": wrong}).status_code == 400, wrong


@pytest.mark.parametrize("task", ["image-classification", "tensor"])
def test_an_image_model_without_preprocessing_says_so(tmp_path, task):
    folder = tiny_models.colours(tmp_path, preprocessing={}, task=task)
    with tiny_models.client_of(folder) as client:
        answer = post(client, png((1, 2, 3)))
        assert answer.status_code == 400
        assert "declares no preprocessing" in answer.json()["message"]


def test_a_fixed_batch_size_serves_any_number_of_images(tmp_path):
    with tiny_models.client_of(tiny_models.colours(tmp_path, batch=2)) as client:
        images = [png(colour) for colour in ((9, 0, 0), (0, 9, 0), (0, 0, 9))]
        rows = post(client, *images).json()["data"]
        assert [row["category"] for row in rows] == ["red", "green", "blue"]


def test_scores_of_another_shape_are_refused(tmp_path):
    folder = tiny_models.save(
        tmp_path,
        "picture",
        [("Identity", ("in:image",), ("out:image_out",), {})],
        [tiny_models.tensor("image", "float32", None, 4, 4, 3)],
        [tiny_models.tensor("image_out", "float32", None, 4, 4, 3)],
        preprocessing={"image": tiny_models.IMAGE},
        task="image-classification",
    )
    with tiny_models.client_of(folder) as client:
        answer = post(client, png((1, 2, 3)))
        assert answer.status_code == 400 and "one score for each class" in answer.json()["message"]
