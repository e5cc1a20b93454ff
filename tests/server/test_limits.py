"""What is too large, too deep or too slow, and requests that two servers could read in two ways."""

import contextlib
import json
import socket
import time

import httpx
import numpy as np
import pytest

from pipcook_deploy.server.access.sockets import end_stalled
from tests.server import tiny_models

pytestmark = pytest.mark.alone

INFER = "/v2/models/logarithm/infer"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
JSON = json.dumps({"inputs": [TENSOR]}).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
SLOW = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tiny_models.logarithm(tmp_path_factory.mktemp("m"))
    options = ("--header-timeout", str(SLOW), "--body-timeout", str(SLOW))
    options += ("--send-timeout", str(SLOW), "--max-elements", "2000000")
    with tiny_models.serving(
        folder, *options, "--max-body", "20000000", "--max-rows", "1000000"
    ) as running:
        yield running


def post(body, *headers, path=INFER):
    head = [f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def whole(body, path=INFER):
    return post(body, f"Content-Length: {len(body)}", "Connection: close", path=path)


def said(server, data, timeout=10.0):
    """All that comes until the server closes."""
    with socket.create_connection(server.address, timeout=timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer


def status(answer):
    return int(answer.split(b" ", 2)[1])


def alive(server):
    return httpx.get(server.url + "/healthz").status_code == 200


def memory(server):
    """Resident bytes."""
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"X: " + b"a" * 50_000 + b"\r\n", 200),
        (b"X: " + b"a" * 300_000 + b"\r\n", 431),
        (b"A: b\r\n" * 90, 200),
        (b"A: b\r\n" * 150, 431),
        (b"A" * 70_000 + b": b\r\n", 431),
    ],
)
def test_heads(server, head, code):
    assert status(said(server, HEALTH + head + b"Connection: close\r\n\r\n")) == code


def test_a_long_address(server):
    line = b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert status(said(server, line % (b"a" * 60_000))) == 404
    assert status(said(server, line % (b"a" * 70_000))) == 414


@pytest.mark.parametrize("depth", [17, 1000, 1024, 1025, 500_000])
@pytest.mark.parametrize(
    ("left", "inside", "right"),
    [("[", "1", "]"), ('{"a":', "1", "}"), ("[", "", "")],
    ids=["lists", "objects", "open"],
)
def test_depth(server, depth, left, inside, right):
    for around in ("%s", '{"inputs": %s}', json.dumps({"inputs": [TENSOR | {"data": "%s"}]})):
        text = around.replace('"%s"', "%s") % (left * depth + inside + right * depth)
        answer = said(server, whole(text.encode()))
        assert status(answer) == 400 and b'{"error":' in answer


def test_elements(server):
    for shape in ([10**15, 2], [2**63, 2], [2**62, 2**62], [-1, 2], [1e300, 2]):
        answer = said(server, whole(json.dumps({"inputs": [TENSOR | {"shape": shape}]}).encode()))
        assert status(answer) == 400
    many = np.ones((1_000_001, 2), np.float32)
    head = {"name": "x", "datatype": "FP32", "shape": many.shape}
    head["parameters"] = {"binary_data_size": many.nbytes}
    text = json.dumps({"inputs": [head]}).encode()
    answer = httpx.post(
        server.url + INFER,
        content=text + many.tobytes(),
        headers={"inference-header-content-length": str(len(text))},
    )
    assert answer.status_code == 400 and "2000000" in answer.json()["error"]


def test_a_body_that_trickles(server):
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(post(b"", "Content-Length: 100"))
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - start < 8:
                connection.sendall(b" ")
                time.sleep(0.1)
                connection.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    assert status(connection.recv(1000)) == 408
                    break
                connection.settimeout(10)
        assert time.monotonic() - start < 6


def test_idle_connections_are_closed(server):
    """New ones, and those that have had an answer."""
    for data in (b"", HEALTH + b"\r\n"):
        with socket.create_connection(server.address, timeout=10) as connection:
            connection.sendall(data)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            assert answer.count(b"200 OK") == (1 if data else 0)


def big_request(rows=300_000):
    """A few bytes a row in, three times as many out."""
    data = np.full((rows, 2), 0.3, np.float32).tobytes()
    head = {"name": "x", "datatype": "FP32", "shape": [rows, 2]}
    text = json.dumps({"inputs": [head | {"parameters": {"binary_data_size": len(data)}}]}).encode()
    length = f"Inference-Header-Content-Length: {len(text)}"
    return post(text + data, length, f"Content-Length: {len(text) + len(data)}")


def test_clients_that_stop_reading_are_cut_off(server):
    """Their answers would stay in memory for as long as they like."""
    request = big_request()
    whole_answer = len(said(server, request.replace(b"Host: x", b"Host: x\r\nConnection: close")))
    assert whole_answer > 5_000_000
    with contextlib.ExitStack() as stack:
        readers = []
        for _ in range(4):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            reader.settimeout(10)
            reader.connect(server.address)
            reader.sendall(request)
            readers.append(reader)
        time.sleep(4 * SLOW)
        for reader in readers:
            got = 0
            with contextlib.suppress(ConnectionResetError):
                while part := reader.recv(65536):
                    got += len(part)
            assert got < whole_answer
    assert alive(server)


def test_the_option_is_set_on_listening_sockets_only():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert end_stalled(port, 2.5) == 1 and end_stalled(port + 1, 2.5) in (0, 1)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listening.accept()
            with accepted:
                level = socket.IPPROTO_TCP
                assert accepted.getsockopt(level, socket.TCP_USER_TIMEOUT) == 2500
                assert client.getsockopt(level, socket.TCP_USER_TIMEOUT) == 0


def test_pipelined_requests_are_answered_in_order(server):
    paths = ["/healthz", "/nowhere", "/v2", "/healthz"]
    data = b"".join(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nx-request-id: {number}\r\n\r\n".encode()
        for number, path in enumerate(paths)
    )
    answer = said(server, data)
    ids = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"0", b"1", b"2", b"3"]


def test_a_flood_of_pipelined_requests_that_no_one_reads(server):
    alive(server)
    before = memory(server)
    with socket.create_connection(server.address) as connection:
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(200):
                connection.sendall((b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n") * 1000)
        assert memory(server) - before < 30_000_000
    assert alive(server)


SECOND = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        post(b"0\r\n\r\n" + SECOND, "Content-Length: 4", "Transfer-Encoding: chunked"),
        post(b"0\r\n\r\n" + SECOND, "Transfer-Encoding: chunked", "Content-Length: 4"),
        post(b"0\r\n\r\n" + SECOND, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        post(b"0\r\n\r\n" + SECOND, "Transfer-Encoding : chunked"),
        post(b"0\r\n\r\n" + SECOND, "Transfer-Encoding: xchunked", "Content-Length: 5"),
        post(b"0\r\n\r\n" + SECOND, "Transfer-Encoding: chunked, identity"),
        post(b"{}" + SECOND, "Content-Length: 2", f"Content-Length: {2 + len(SECOND)}"),
        post(b"{}" + SECOND, "Content-Length: 2, 2"),
        post(b"{}" + SECOND, "Content-Length: +2"),
        post(b"{}" + SECOND, "Content-Length: 0x2"),
        post(b"{}" + SECOND, "Content-Length: 99999999999999999999999"),
        post(b"{}" + SECOND, "X: a\r\n Content-Length: 2"),
        post(b"fffffffffffffffff\r\n" + SECOND, "Transfer-Encoding: chunked"),
        post(b"2\r\n{}0\r\n\r\n" + SECOND, "Transfer-Encoding: chunked"),
    ],
    ids=range(14),
)
def test_ambiguous_requests_carry_no_second_one(server, data):
    """Each has a body of two readings; in one of them a second request follows."""
    answer = said(server, data)
    assert answer.count(b"HTTP/1.1 ") == 1 and status(answer) in (400, 413)
    assert b"/smuggled" not in answer


def test_more_clients_than_connections(tmp_path):
    """They wait, and have their turn when the idle ones are closed."""
    folder = tiny_models.logarithm(tmp_path)
    options = ("--max-connections", "8", "--header-timeout", str(SLOW))
    with tiny_models.serving(folder, *options) as running, contextlib.ExitStack() as idle:
        for _ in range(20):
            idle.enter_context(socket.create_connection(running.address, 5))
        assert httpx.get(running.url + "/healthz", timeout=10).status_code == 200


def test_a_name_is_decoded_once(tmp_path):
    """By granian: a second time would turn one model's name into another's."""
    folder = tiny_models.save(
        tmp_path,
        "a%41",
        [("Identity", ("in:x",), ("out:y",), {})],
        [tiny_models.tensor("x", "float32", None)],
        [tiny_models.tensor("y", "float32", None)],
    )
    with tiny_models.client_of(folder) as client:
        assert client.get("/v2/models/a%2541").json()["name"] == "a%41"
        assert client.get("/v2/models/a%41").status_code == 404
