"""How much memory the bodies of all requests together may take."""

import io
import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from PIL import Image

from tests.server import tiny_models

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tiny_models.colours(tmp_path_factory.mktemp("m"))
    options = ("--max-bodies", str(3 * MEGABYTE), "--body-timeout", "3", "--max-pixels", "10000")
    with tiny_models.serving(folder, *options) as running:
        yield running


def stalled(server, size):
    """An upload that stops after its head."""
    connection = socket.create_connection(server.address, 5)
    head = f"POST /v2/models/colours/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    connection.sendall(head.encode() + b"{")
    return connection


def sent(server, size, chunked=False):
    body = b" " * size
    content = iter([body[i : i + 100_000] for i in range(0, size, 100_000)]) if chunked else body
    return httpx.post(f"{server.url}/v2/models/colours/infer", content=content)


@pytest.mark.parametrize("chunked", [False, True])
def test_stalled_uploads_leave_room_for_small_requests_and_none_for_large_ones(server, chunked):
    with ExitStack() as connections:
        for _ in range(3):
            connections.enter_context(stalled(server, 900_000))
        assert sent(server, 100_000, chunked).status_code == 400  # not JSON
        refused = sent(server, MEGABYTE, chunked)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
    for _ in range(50):  # the server sees that they have left, or loses patience
        if sent(server, MEGABYTE, chunked).status_code == 400:
            return
        time.sleep(0.1)
    pytest.fail("the room was not given back")


def test_the_images_of_a_request_are_counted_together(server):
    data = io.BytesIO()
    Image.new("RGB", (60, 60)).save(data, "PNG")
    for count, status in ((2, 200), (3, 400)):
        files = [("image", data.getvalue())] * count
        answer = httpx.post(f"{server.url}/predict", files=files)
        assert answer.status_code == status, answer.text
    assert "10800 pixels together" in answer.json()["message"]
