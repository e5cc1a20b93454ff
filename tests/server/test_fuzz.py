"""Requests with random damage: every answer is below 500, and the server lives on."""

import contextlib
import json
import socket

import httpx
import numpy as np
import pytest

from tests.server import tiny_models

ROUNDS = 250
TENSOR = {"name": "image", "datatype": "FP32", "shape": [1, 4, 4, 3], "data": [0.5] * 48}
JSON = json.dumps({"inputs": [TENSOR], "outputs": [{"name": "scores"}], "id": "x"}).encode()
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.gif"\r\n'
    b"Content-Type: image/gif\r\n\r\nGIF89a\x01\x00\x01\x00\x80\x00\x00\xff\x00\x00\x00\x00\x00"
    b"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;\r\n--b--\r\n"
)
WORDS = [b"", b"-", b"null", b"1e999", b"[", b"}", b'"', b"\xff", b"\r\n", b"--b", b"999999999999"]


def request(path, media, body):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def damaged(random, data):
    for _ in range(random.integers(1, 5)):
        start = int(random.integers(len(data)))
        end = start + int(random.integers(0, 6))
        data = data[:start] + WORDS[random.integers(len(WORDS))] + data[end:]
    return data


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tiny_models.colours(tmp_path_factory.mktemp("m"))
    with tiny_models.serving(
        folder, "--body-timeout", "0.2", "--header-timeout", "0.5", "--max-pixels", "1000000"
    ) as running:
        yield running


@pytest.mark.parametrize("whole", [True, False], ids=["head-and-body", "body"])
@pytest.mark.parametrize(
    ("path", "media", "body"),
    [
        ("/v2/models/colours/infer", "application/json", JSON),
        ("/predict?top=2", "multipart/form-data; boundary=b", FORM),
    ],
)
def test_damaged_requests(server, path, media, body, whole):
    statuses = set()
    assert status(server, request(path, media, body)) == 200
    for seed in range(ROUNDS // (4 if whole else 1)):
        random = np.random.default_rng([seed, whole])
        data = (
            damaged(random, request(path, media, body))
            if whole
            else request(path, media, damaged(random, body))
        )
        statuses.add(status(server, data))
    assert statuses & {400} and all(code is None or code < 500 for code in statuses)
    assert httpx.get(server.url + "/healthz").status_code == 200


def status(server, data):
    """The status of the first answer; None if the server just closes."""
    quiet = contextlib.suppress(BrokenPipeError, ConnectionResetError)
    with socket.create_connection(server.address, timeout=10) as connection, quiet:
        connection.sendall(data)
        line = connection.makefile("rb").readline()
        return int(line.split()[1]) if line else None
    return None
