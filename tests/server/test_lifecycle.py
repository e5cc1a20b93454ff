"""Start, limits, hostile connections, draining and end, over raw sockets."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.ports import free_port
from tests.server import tiny_models

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.colours(tmp_path_factory.mktemp("m"))


@pytest.fixture(scope="module")
def server(folder):
    options = ("--max-body", "100000", "--body-timeout", "1.0", "--header-timeout", "1.0")
    with tiny_models.serving(folder, *options) as running:
        yield running


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url) as connected:
        yield connected


def raw(server, data, timeout=10.0):
    """Everything that the server says to `data` until it closes or `timeout` passes."""
    with socket.create_connection(server.address, timeout=timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer


def post_head(*headers):
    return "\r\n".join(
        ["POST /v2/models/colours/infer HTTP/1.1", "Host: x", *headers, "", ""]
    ).encode()


def test_health_head_options_and_unknown_routes(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.head("/v2").content == b"" and client.head("/v2").status_code == 200
    options = client.options("/predict")
    assert options.status_code == 204 and options.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    put = client.put("/predict")
    assert put.status_code == 405 and "POST" in put.headers["allow"]
    for path in ("/x", "/../etc/passwd", "/%2e%2e/x", "/page/index.html", "/predict/"):
        answer = client.get(path)
        assert answer.status_code == 404 and answer.json()["success"] is False


def test_the_page_has_a_policy_and_nothing_from_elsewhere(client):
    for path in ("/", "/page.css", "/page.js"):
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text and "https://" not in answer.text


def test_a_body_that_is_too_large(client):
    big = b"x" * 150_000
    known = client.post("/v2/models/colours/infer", content=big)
    assert known.status_code == 413 and "100000" in known.json()["error"]
    chunked = client.post("/v2/models/colours/infer", content=iter([big[:70_000]] * 3))
    assert chunked.status_code == 413
    assert client.get("/healthz").status_code == 200


def test_a_lie_about_the_length_is_refused_at_once(server):
    start = time.monotonic()
    answer = raw(server, post_head("Content-Length: 99999999999"), timeout=5)
    assert b" 413 " in answer.split(b"\r\n", 1)[0]
    assert time.monotonic() - start < 3


def test_a_body_that_never_comes_times_out(server):
    start = time.monotonic()
    answer = raw(server, post_head("Content-Length: 100") + b"{", timeout=5)
    assert b" 408 " in answer.split(b"\r\n", 1)[0]
    assert 0.9 < time.monotonic() - start < 4


def test_headers_that_never_end_are_cut_off(server):
    start = time.monotonic()
    raw(server, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", timeout=6)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /\x00\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 900_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        post_head("Content-Length: -1"),
        post_head("Content-Length: 5", "Content-Length: 6") + b"{}",
        post_head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        post_head("Transfer-Encoding: chunked") + b"zz\r\n",
        post_head("Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFFFF\r\nx",
        b"GET /predict?input=%00&input=%ff%fe&%%%=1&top=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=range(13),
)
def test_hostile_bytes_never_hang_or_break_the_server(server, data):
    answer = raw(server, data, timeout=4)
    assert b" 50" not in answer.split(b"\r\n", 1)[0]
    assert b"Traceback" not in answer
    assert httpx.get(server.url + "/healthz").status_code == 200


def test_clients_that_leave_do_no_harm(server):
    for _ in range(20):
        with socket.create_connection(server.address) as connection:
            connection.sendall(post_head("Content-Length: 1000") + b"{" * 10)
    assert httpx.get(server.url + "/healthz").status_code == 200


def test_a_taken_port_is_named(server, folder):
    host, port = server.address
    with pytest.raises(ServerError, match=f"port {port} .* is taken"):
        free_port(host, port)
    command = [sys.executable, "-m", "pipcook_deploy.server", "--port", str(port)]
    command += ["--spec", str(folder / "spec.json"), "--artifact", str(folder / "artifact.json")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert second.returncode == ServerError.exit_code
    assert str(port) in second.stderr and "--port" in second.stderr
    assert "Traceback" not in second.stderr


def test_an_address_that_is_not_ours_is_an_error():
    with pytest.raises(ServerError, match="cannot listen"):
        free_port("192.0.2.1", 9091)
    with pytest.raises(ServerError):
        free_port("127.0.0.1", 70000)


def test_a_damaged_model_is_an_error(tmp_path):
    broken = tiny_models.colours(tmp_path)
    (broken / "model.onnx").write_bytes(b"no model")
    command = [sys.executable, "-m", "pipcook_deploy.server", "--port", "0"]
    command += ["--spec", str(broken / "spec.json"), "--artifact", str(broken / "artifact.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == ServerError.exit_code and "Traceback" not in done.stderr


def test_it_starts_within_two_seconds_without_tensorflow(folder):
    start = time.monotonic()
    with tiny_models.serving(folder) as running:
        assert httpx.get(running.url + "/v2/health/ready").status_code == 200
        assert time.monotonic() - start < 2 or _busy_machine_start(folder) < 2
    script = "import sys, pipcook_deploy.server; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def _busy_machine_start(folder):
    """The best of three: the bar is about the server, not about its neighbours."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        with tiny_models.serving(folder):
            times.append(time.monotonic() - start)
    return min(times)


def test_what_no_client_waits_for_any_more_is_not_computed(tmp_path):
    row = {"name": "x", "datatype": "FP32", "shape": [1, 256, 256], "data": [1.0] * 65536}
    body = json.dumps({"inputs": [row]}).encode()
    # So slow that the second client's leaving is noticed before its turn comes, whatever else the machine does.
    folder = tiny_models.slow(tmp_path, rounds=6000)
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with (
        tiny_models.serving(folder, "--threads", "1", "--streams", "1") as running,
        socket.create_connection(running.address, timeout=60) as first,
    ):
        first.sendall(head.encode() + body)
        while 'pending_requests{model="slow",version="1"} 1.0' not in metrics(running):
            time.sleep(0.01)
        with socket.create_connection(running.address, timeout=60) as second:
            second.sendall(head.encode() + body)
            while 'queue_depth{model="slow",version="1"} 1.0' not in metrics(running):
                time.sleep(0.01)
        assert first.recv(12) == b"HTTP/1.1 200"
        while 'pending_requests{model="slow",version="1"} 0.0' not in metrics(running):
            time.sleep(0.01)
        assert 'expired_requests_total{model="slow",version="1"} 1.0' in metrics(running)


def metrics(server):
    return httpx.get(f"{server.url}/metrics").text


# npm passes on a Ctrl-C that the terminal has sent to the server as well.
@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGINT, signal.SIGTERM)]
)
def test_what_is_in_flight_is_answered_before_the_end(tmp_path, numbers):
    row = {"name": "x", "datatype": "FP32", "shape": [1, 256, 256], "data": [1.0] * 65536}
    body = json.dumps({"inputs": [row]})
    folder = tiny_models.slow(tmp_path)
    answers = []
    with tiny_models.serving(folder, "--threads", "1", "--preparers", "1") as running:

        def ask():
            connection = http.client.HTTPConnection(*running.address, timeout=60)
            connection.request("POST", "/v2/models/slow/infer", body)
            response = connection.getresponse()
            answers.append((response.status, len(response.read())))
            connection.close()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        # Not for a time: the machine may stall, and all be answered meanwhile.
        while 'pending_requests{model="slow",version="1"} 3.0' not in metrics(running):
            assert not answers, "the model is too fast for this test"
            time.sleep(0.01)
        assert not answers, "the model is too fast for this test"
        for number in numbers:
            running.process.send_signal(number)
        for thread in threads:
            thread.join(60)
        assert running.process.wait(30) == 0
    assert [status for status, _ in answers] == [200, 200, 200]
    assert all(size > 500 for _, size in answers)
    with pytest.raises(OSError):
        socket.create_connection(running.address, timeout=1)


def test_idle_connections_and_unfinished_heads_do_not_delay_the_end(folder):
    with tiny_models.serving(folder) as running, contextlib.ExitStack() as connections:
        for data in (
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            post_head("Content-Length: 9")[:-4],
        ):
            connection = connections.enter_context(socket.create_connection(running.address, 5))
            connection.sendall(data)
        with httpx.Client(base_url=running.url) as kept:
            assert kept.get("/healthz").status_code == 200
            start = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(10) == 0
            assert time.monotonic() - start < 5  # not the header timeout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs sockets of Linux")
def test_whoever_is_connected_at_the_end_is_answered(folder):
    lost, answers = [], []
    with tiny_models.serving(folder) as running:

        def ask_again_and_again():
            while True:
                connection = http.client.HTTPConnection(*running.address, timeout=20)
                try:
                    connection.connect()
                except OSError:
                    return  # the end
                try:
                    connection.request("GET", "/healthz")
                    answers.append(connection.getresponse().read())
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                connection.close()

        threads = [threading.Thread(target=ask_again_and_again) for _ in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert running.process.wait(10) == 0
    assert len(answers) > 100
    assert lost == []
