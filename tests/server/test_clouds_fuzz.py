"""Whatever is sent to the clouds' routes gets an answer of 2xx or 4xx, in legal JSON."""

import base64
import io
import json
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.server import cloud_models, tiny_models

MODELS = {
    "colours": tiny_models.colours,
    "words": tiny_models.words,
    "sensors": cloud_models.sensors,
    "person": cloud_models.person,
}
VERBS = (":predict", ":classify", ":regress")
KEYS = ("instances", "inputs", "examples", "dataframe_split", "dataframe_records", "input_data")
file = io.BytesIO()
Image.new("RGB", (4, 4), "red").save(file, "PNG")
PNG = file.getvalue()
NAMES = [
    "image",
    "ids",
    "tag",
    "signal",
    "sensor",
    "age",
    "city",
    "member",
    "visits",
    "data",
    "b64",
]
leaves = st.one_of(
    st.sampled_from([0, 1, -1, 0.5, 1e39, 2**70, True, None, "", "good", "1", 3.0]),
    st.just({"b64": base64.b64encode(PNG).decode()}),
    st.builds(lambda text: {"b64": text}, st.text(max_size=5)),
    st.text(max_size=5),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
whole = st.sampled_from(
    [
        [[[[0.5] * 3] * 4] * 4],
        ["good", "bad"],
        [[2, 3, 0, 0]],
        [{"tag": "a", "signal": [1] * 5, "sensor": [[1, 2], [3, 4]]}],
        [{"age": 1, "city": "a", "member": True, "visits": 1}],
        {"columns": ["age", "city", "member", "visits"], "data": [[1, "a", True, 1]]},
    ]
)
rest = st.dictionaries(
    st.sampled_from(["signature_name", "parameters", "params", "context"]),
    st.sampled_from([{}, {"top": 2}, {"top": -1}, "serving_default", "x", None, [1], 3]),
    max_size=2,
)
documents = st.builds(
    lambda keys, value, more: dict.fromkeys(keys, value) | more,
    st.lists(st.sampled_from(KEYS), min_size=1, max_size=2),
    whole | values,
    rest,
)


def npy():
    file = io.BytesIO()
    np.save(file, np.ones((2, 4, 4, 3), "f4"))
    return file.getvalue()


bodies = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=80),
    st.builds(
        lambda whole, place, byte: whole[:place] + bytes([byte]) + whole[place + 1 :],
        st.sampled_from([PNG, npy(), b"age,city,member,visits\n1,a,true,1\n", b"1,2\n3,4\n"]),
        st.integers(0, 130),
        st.integers(0, 255),
    ),
)
MEDIA = [
    "application/json", "text/csv", "text/csv; header=present", "application/jsonlines",
    "application/x-npy", "image/png", "application/octet-stream", "",
]  # fmt: skip
ACCEPT = ["", "*/*", "text/csv", "application/jsonlines", "text/html"]


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(tiny_models.client_of(make(tmp_path_factory.mktemp("m"))))
            for name, make in MODELS.items()
        }


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(list(MODELS)),
    path=st.sampled_from([*VERBS, "/invocations", "/score", "/invoke"]),
    body=bodies,
    media=st.sampled_from(MEDIA),
    accept=st.sampled_from(ACCEPT),
    query=st.sampled_from(["", "", "top=2", "nonfinite=tokens", "top=x", "%ff"]),
)
def test_any_body_gets_an_answer(clients, name, path, body, media, accept, query):
    route = f"/v1/models/{name}{path}" if path in VERBS else path
    headers = {"content-type": media, "accept": accept}
    answer = clients[name].post(f"{route}?{query}", content=body, headers=headers)
    assert answer.status_code in (200, 400, 406, 415), answer.text
    if answer.headers["content-type"] == "application/json" and "tokens" not in query:
        json.loads(answer.content, parse_constant=pytest.fail)
