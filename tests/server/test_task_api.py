"""/predict for people: each way to send a value, and the form of each task's answer."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.server import task_models, tiny_models
from tests.server.test_pipcook import png

RED = png((200, 10, 60))
BASE64 = base64.b64encode(RED).decode()


def serving(make):
    @pytest.fixture(scope="module")
    def client(tmp_path_factory):
        with tiny_models.client_of(make(tmp_path_factory.mktemp("m"))) as found:
            yield found

    return client


colours = serving(tiny_models.colours)
words = serving(tiny_models.words)
person = serving(task_models.person)
detector = serving(task_models.detector)


def data(answer):
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    return answer.json()["data"]


def message(answer, status=400):
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is False
    return answer.json()["message"]


def test_an_image_is_the_same_by_every_way(colours):
    form = data(colours.post("/predict?top=3", files=[("image", RED)]))
    ways = [
        {"content": RED, "headers": {"content-type": "image/png"}},
        {"content": RED, "headers": {"content-type": "image/webp"}},  # the bytes say what it is
        {"content": RED, "headers": {"content-type": "application/octet-stream"}},
        {"json": {"image": BASE64}},
        {"json": {"image": "\n".join(BASE64[i : i + 20] for i in range(0, len(BASE64), 20))}},
        {"json": {"image": f"data:image/png;base64,{BASE64}"}},
        {"json": {"images": [BASE64]}},
        {"json": {"row": {"image": BASE64}}},
    ]
    for way in ways:
        assert data(colours.post("/predict?top=3", **way)) == form, way
    assert form[0]["category"] == "red" and len(form[0]["top"]) == 3
    two = data(colours.post("/predict", json={"images": [BASE64, BASE64]}))
    assert len(two) == 2 and list(two[0]) == ["id", "category", "score"]


@pytest.mark.parametrize("path", ["", "/versions/1"])
def test_models_and_versions_have_their_own_paths(colours, path):
    url = f"/models/colours{path}/predict"
    answer = colours.post(url, files=[("image", RED)])
    assert data(answer)[0]["category"] == "red"
    assert answer.headers["x-model"] == "colours/1"
    for step in ("prepare", "compute", "total"):
        assert f"{step};dur=" in answer.headers["server-timing"]
    assert "takes images" in message(colours.get(url, params={"input": "a"}))


@pytest.mark.parametrize("path", ["nothing/", "colours/versions/2/", "colours/labels/canary/"])
def test_what_is_not_there_gets_404(colours, path):
    assert message(colours.post(f"/models/{path}predict", json={"image": BASE64}), 404)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"image": "http://169.254.169.254/latest"}, "fetches no URL"),
        ({"image": "file:///etc/passwd"}, "fetches no URL"),
        ({"image": "data:image/png,abc"}, "not base64"),
        ({"image": "data:image/png;base64"}, "not base64"),
        ({"image": "!!!!"}, "not base64"),
        ({"image": "AAA"}, "not base64"),
        ({"image": "\u00e9"}, "not base64"),
        ({"image": ""}, "not a PNG"),
        ({"image": 5}, "text in base64"),
        ({"images": [None]}, "text in base64"),
        ({"images": []}, "not empty"),
        ({"images": BASE64}, "must be a list"),
        ({"images": [BASE64] * 65}, "at most 64"),
        ({"image": BASE64, "text": "both"}, "one of image"),
        ({"picture": BASE64}, "one of image"),
        ([BASE64], "one of image"),
        ({"text": "a"}, "takes images"),
        ({"row": [1]}, "not as list"),
        ({"row": {"x": 1}}, "no 'image'"),
        ({"row": {"image": BASE64, "x": 1}}, "unknown 'x'"),
    ],
)
def test_json_that_is_refused(colours, body, reason):
    assert reason in message(colours.post("/predict", json=body))


def test_bodies_that_are_refused(colours):
    def post(content, media):
        return colours.post("/predict", content=content, headers={"content-type": media})

    assert "not JSON" in message(post(b'{"image":', "application/json"))
    assert "not JSON" in message(post(b'{"image": NaN}', "application/json"))
    assert "not JSON" in message(post(b"[" * 100_000, "application/json"))
    assert "takes images" in message(post(b"text", "text/plain"))
    assert "application/xml" in message(post(b"<x/>", "application/xml"), 415)
    assert "not a PNG" in message(post(b"", "image/png"))
    for query in ("top=0", "threshold=2", "threshold=nan", "threshold=x", "threshold=٣"):
        assert message(colours.post(f"/predict?{query}", json={"image": BASE64}))


def test_a_text_by_every_way(words):
    expected = data(words.get("/predict", params={"input": "good good bad"}))
    plain = {"content-type": "text/plain; charset=UTF-8"}
    assert data(words.post("/predict", content="good good bad", headers=plain)) == expected
    assert data(words.post("/predict", json={"text": "good good bad"})) == expected
    assert data(words.post("/predict", json={"row": {"ids": "good good bad"}})) == expected
    two = data(words.post("/predict", json={"texts": ["good good bad", "bad bad bad bad"]}))
    assert two[0] == expected[0] and two[1]["category"] == "bad"
    assert "a text is expected" in message(words.post("/predict", json={"text": 5}))
    assert "takes text" in message(words.post("/predict", json={"image": BASE64}))
    assert "takes text" in message(
        words.post("/predict", content=RED, headers={"content-type": "image/png"})
    )
    assert "UTF-8" in message(words.post("/predict", content=b"\xff", headers=plain))
    latin = {"content-type": "text/plain; charset=latin-1"}
    assert "UTF-8" in message(words.post("/predict", content=b"a", headers=latin), 415)


PERSON = {"age": 30.5, "income": 1e-300, "city": "Łódź", "member": True, "visits": [1, 2**60]}


def test_rows_of_several_inputs(person):
    outputs = {f"{k}_out": [v] if k in ("income", "city") else v for k, v in PERSON.items()}
    assert data(person.post("/predict", json={"row": PERSON})) == [{"outputs": outputs}]
    assert data(person.post("/predict", json={"row": list(PERSON.values())})) == [
        {"outputs": outputs}
    ]
    rows = [PERSON, PERSON | {"age": 1, "city": ["x"]}]
    second = data(person.post("/predict", json={"rows": rows}))[1]["outputs"]
    assert (second["age_out"], second["city_out"]) == (1.0, ["x"])
    asked = person.get("/predict", params={"input": json.dumps(PERSON)})
    assert data(asked) == [{"outputs": outputs}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"age": "30"}, "'age' takes numbers, not a text"),
        ({"age": True}, "'age' takes numbers, not a truth value"),
        ({"age": None}, "'age' takes numbers, not null"),
        ({"age": 1e300}, "too large"),
        ({"age": [1, 2]}, "shape"),
        ({"city": 5}, "'city' takes texts, not a number"),
        ({"member": 1}, "'member' takes true or false"),
        ({"visits": [1.0, 2.0]}, "'visits' takes whole numbers"),
        ({"visits": [1, 2**63]}, "'visits'"),
        ({"visits": [[1], [2, 3]]}, "equally long"),
        ({"visits": {"a": 1}}, "not an object"),
        ({"x" * 1000: 1}, "unknown 'x"),
    ],
)
def test_columns_that_do_not_fit(person, change, reason):
    assert reason in message(person.post("/predict", json={"row": PERSON | change}))


def test_rows_that_do_not_fit(person):
    cases = [
        ({"row": {"age": 1}}, "no 'income'"),
        ({"row": [1, 2]}, "a list of 5"),
        ({"row": 5}, "a row is an object"),
        ({"rows": [PERSON, None]}, "a row is an object"),
        ({"image": BASE64}, "takes rows of a table"),
    ]
    for body, reason in cases:
        assert reason in message(person.post("/predict", json=body))


def test_a_table_with_labels_is_classified(tmp_path):
    with tiny_models.client_of(task_models.iris(tmp_path)) as client:
        rows = [[1, 3, 2, 0], {"x": [4, 3, 2.5, 0]}]
        answer = data(client.post("/predict?top=2", json={"rows": rows}))
        assert [row["category"] for row in answer] == ["versicolor", "setosa"]
        assert [score["id"] for score in answer[1]["top"]] == [0, 1]
        assert "takes [4]" in message(client.post("/predict", json={"row": [1, 2]}))
        assert "takes rows of numbers" in message(client.post("/predict", json={"text": "a"}))


def test_a_lone_probability_is_that_of_the_second_class(tmp_path):
    with tiny_models.client_of(task_models.spam(tmp_path)) as client:
        answer = data(client.post("/predict", json={"rows": [0.25, [0.75], 0.5]}))
        assert [(row["category"], row["score"]) for row in answer] == [
            ("ham", 0.75),
            ("spam", 0.75),
            ("ham", 0.5),
        ]
        assert data(client.post("/predict", json={"row": 7}))[0]["score"] == 7  # no probability


def test_numbers_without_labels_come_by_name(tmp_path):
    with tiny_models.client_of(tiny_models.logarithm(tmp_path)) as client:
        answer = client.post("/predict", json={"rows": [[1, 0], [-1, 1]]})
        assert data(answer) == [{"outputs": {"y": [0.0, None]}}, {"outputs": {"y": [None, 0.0]}}]


def test_boxes_are_pixels_of_the_picture_that_was_sent(detector):
    picture = png((9, 9, 9), (80, 40))
    first, second = data(detector.post("/predict", files=[("image", picture)]))[0]
    assert (first["id"], first["category"]) == (1, "dog")
    assert first["score"] == pytest.approx(0.9, abs=1e-6)
    assert first["box"] == [40.0, 20.0, 40.0, 20.0]
    assert (second["category"], second["box"]) == ("cat", [0.0, 0.0, 20.0, 20.0])
    low = data(
        detector.post("/predict?threshold=0", json={"image": base64.b64encode(picture).decode()})
    )
    assert len(low[0]) == 3
    assert len(data(detector.post("/predict?top=1", files=[("image", picture)]))[0]) == 1


def test_boxes_of_a_picture_that_the_camera_turned(detector):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 80)).save(buffer, "JPEG", exif=exif)
    assert data(
        detector.post("/predict", content=buffer.getvalue(), headers={"content-type": "image/jpeg"})
    )[0][0]["box"] == [40.0, 20.0, 40.0, 20.0]


def test_boxes_of_a_cropped_picture(tmp_path):
    with tiny_models.client_of(task_models.detector(tmp_path, task_models.FIT)) as client:
        picture = png((9, 9, 9), (80, 40))  # the square in its middle is seen: 20 to 60
        first = data(client.post("/predict", files=[("image", picture)]))[0][0]
        assert first["box"] == [40.0, 20.0, 20.0, 20.0]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_picture_is_a_png_where_its_numbers_are_pixels(tmp_path, dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    with tiny_models.client_of(task_models.painter(tmp_path, dtype)) as client:
        value = data(client.post("/predict", files=[("image", buffer.getvalue())]))[0]["outputs"][
            "picture"
        ]
    if dtype == "uint8":
        value = Image.open(io.BytesIO(base64.b64decode(value["png"])))
    assert np.array_equal(np.asarray(value), pixels)
