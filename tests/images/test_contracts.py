"""Each contract's words, there and back: the server is asked, and what is read is what the model answers."""

import io
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from pipcook_deploy.errors import BootError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.contracts import COMMON, EVENT, label_of
from pipcook_deploy.spec import ModelSpec
from tests.server import cloud_models, tiny_models

INPUTS = {
    "age": np.array([[41.5], [-2.0]], np.float32),
    "city": np.array([["Łódź"], [""]], dtype=object),
    "member": np.array([True, False]),
    "visits": np.array([3, -7], np.int32),
}


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    yield from _server(cloud_models.person(tmp_path_factory.mktemp("m")))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    yield from _server(tiny_models.colours(tmp_path_factory.mktemp("m")))


def _server(folder):
    spec = ModelSpec.model_validate_json((folder / "spec.json").read_bytes())
    with tiny_models.serving(folder) as running:
        place = urlsplit(running.url)
        yield Server(place.hostname, place.port), spec


@pytest.mark.parametrize("contract", [*COMMON, EVENT], ids=lambda contract: contract.name)
def test_text_numbers_and_truth_come_back_as_they_went(person, contract):
    server, spec = person
    answers = contract.ask(server, spec, INPUTS)
    assert set(answers) == {f"{name}_out" for name in INPUTS}
    for name, value in INPUTS.items():
        got = answers[f"{name}_out"]
        assert got.shape == value.shape and got.dtype == value.dtype
        assert got.tolist() == value.tolist()


def test_a_refusal_is_quoted(person):
    server, spec = person
    wrong = INPUTS | {"visits": INPUTS["visits"].reshape(2, 1)}
    with pytest.raises(BootError, match=r"POST /v2/models/person/infer answers 400: .*visits"):
        COMMON[0].ask(server, spec, wrong)


def test_a_picture_gets_its_label(colours):
    server, _ = colours
    assert label_of(server, png("red")) == (0, "red")
    assert label_of(server, png("blue")) == (2, "blue")


def test_an_answer_of_another_form_is_an_error_of_the_boot_test(colours, monkeypatch):
    server, _ = colours
    monkeypatch.setattr("pipcook_deploy.images.asking.Reply.json", lambda reply: {"success": True})
    with pytest.raises(BootError, match="POST /predict: the answer has another form"):
        label_of(server, png("red"))


def test_half_numbers_are_asked_for_in_binary_only():
    spec = ModelSpec(
        inputs=[{"name": "x", "dtype": "float16", "shape": [None, 1]}],
        outputs=[{"name": "y", "dtype": "float32", "shape": [None, 1]}],
    )
    inputs, outputs = {"x": np.ones((1, 1), np.float16)}, {"y": np.ones((1, 1), np.float32)}
    fit = [contract.name for contract in COMMON if not contract.unfit(spec, inputs, outputs)]
    assert fit == ["Open Inference Protocol, binary"]
