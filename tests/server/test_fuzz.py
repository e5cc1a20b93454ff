"""Requests with random damage: every answer is below 500, and the server lives on. More of them: `fuzz.py`."""

import pytest

from tests.server import fuzz, tiny_models
from tests.server.fuzz_requests import MODELS, made, seeds

pytestmark = pytest.mark.alone

CASES = 80  # beside the valid requests

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"


@pytest.mark.parametrize("model", MODELS)
def test_damaged_requests(model, tmp_path):
    numbers = list(range(len(seeds(model)) + CASES))
    complaints, statuses = fuzz.run(model, 0, numbers, tmp_path)
    assert complaints == {}
    assert statuses[200] > 20 and statuses[400] > 20, statuses


@pytest.mark.parametrize(
    ("received", "wrong"),
    [
        (None, "no end in time"),
        (b"", ""),
        (OK % (2, b"{}"), ""),
        (OK % (2, b"{}") * 2, ""),
        (OK % (2, b"{}") + b"HTTP/1.1 500 x\r\n\r\n", "status 500"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", ""),
        (b"HTTP/1.1 501 Not Implemented\r\n\r\n", "status 501"),
        (OK % (4, b"{'a'"), "an answer that is not JSON"),
        (OK % (9, b"Traceback"), "a traceback"),
        (b"HTTP/1.1 200 OK\r\ncontent-", "half a head"),
    ],
)
def test_what_the_fuzzer_complains_about(received, wrong):
    assert fuzz.complaint(received) == wrong


def test_a_case_is_the_same_every_time():
    for number in (0, 100, 12_345):
        assert made(1, number, "colours") == made(1, number, "colours")
    assert made(1, 100, "colours") != made(2, 100, "colours")


def test_a_server_that_ends_is_noticed(tmp_path, monkeypatch):
    def ending(address, data):
        (server,) = running
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(20)

    running = []
    serving = tiny_models.serving

    class Serving:
        def __init__(self, *arguments):
            self.inner = serving(*arguments)

        def __enter__(self):
            running.append(self.inner.__enter__())
            return running[0]

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    monkeypatch.setattr(tiny_models, "serving", Serving)
    monkeypatch.setattr(fuzz, "answers", ending)
    monkeypatch.setattr(fuzz, "resources", lambda process: (0, 0))
    complaints, _ = fuzz.run("logarithm", 0, [0], tmp_path)
    assert "end" in complaints and "health" in complaints
