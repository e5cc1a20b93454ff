"""The end under load against servers that end in other ways: what is lost is told from what was never accepted."""

import json
import socket
import threading
import time

import numpy as np
import pytest

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.errors import BootError
from pipcook_deploy.images import drain
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.drain import Load, end_under_load
from pipcook_deploy.images.golden import Golden
from pipcook_deploy.server.access.sockets import NO_INTERFACE, SO_BINDTOIFINDEX
from tests.server import scale_bundles

SECONDS = 0.02  # that an answer takes


class Pretender:
    """A server whose answers, and whose end, are said by the test; and the container that it pretends to be in."""

    def __init__(self, *, end, factor=3.0, after=None, status=200, code=0):
        self._end, self._factor, self._after = end, factor, after
        self._status, self._code = status, code
        self._ending, self._ended, self._closed = (threading.Event() for _ in range(3))
        self._asked = self._since = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def signal(self, name):
        assert name == "SIGTERM"
        self._ending.set()
        self._since = time.monotonic()
        if self._end == "refuse":
            # As ours does: who waits to be accepted is still accepted.
            self._listening.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
        time.sleep(8 * SECONDS)
        self._ended.set()

    def wait(self, seconds):
        return self._code if self._ended.wait(seconds) else None

    def close(self):
        self._closed.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client):
        with client:
            # A server goes on accepting for a moment.
            late = self._ending.is_set() and time.monotonic() - self._since > 2 * SECONDS
            if late and self._end == "proxy":
                return  # a proxy that has accepted what its server never will
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += client.recv(65536)
            time.sleep(SECONDS)
            if self._ending.is_set() and not late and self._end == "drop":
                return
            if self._ending.is_set() and self._end == "hang":
                self._closed.wait(60)
                return
            self._asked += 1
            factor = self._after if self._after and self._asked > 5 else self._factor
            client.sendall(self._said(factor))

    def _said(self, factor):
        data = np.array([[1, 2]], np.float32) * factor
        row = {
            "name": "y",
            "datatype": "FP32",
            "shape": [1, 2],
            "parameters": {"binary_data_size": 8},
        }
        head = json.dumps({"outputs": [row]}).encode()
        start = (
            f"HTTP/1.1 {self._status} X\r\nConnection: close\r\nContent-Length: {len(head) + 8}\r\n"
        )
        return (
            f"{start}Inference-Header-Content-Length: {len(head)}\r\n\r\n".encode()
            + head
            + data.tobytes()
        )


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return Golden.of(
        Bundle.open(scale_bundles.write(tmp_path_factory.mktemp("b") / "b", 3)), "onnx"
    )


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(drain, "CONNECTING", 0.5)


def ended(golden, *, proxied=False, **pretended):
    server = Pretender(**pretended)
    try:
        load = Load.of(golden, Server("127.0.0.1", server.port))
        return end_under_load(server, ("127.0.0.1", server.port, proxied), load)
    finally:
        server.close()


def test_a_server_that_answers_what_it_has_accepted_loses_nothing(golden):
    entry = ended(golden, end="refuse")
    assert entry.lost == 0 and entry.answered >= 40 and entry.after_sigterm > 0


@pytest.mark.parametrize("proxied", [False, True])
def test_what_was_accepted_before_and_is_dropped_is_lost(golden, proxied):
    with pytest.raises(BootError, match=r"requests were lost at SIGTERM: POST .*Remote"):
        ended(golden, end="drop", proxied=proxied)


@pytest.mark.parametrize("proxied", [False, True])
def test_what_is_never_answered_is_lost(golden, proxied):
    with pytest.raises(BootError, match="requests were lost at SIGTERM: no answer came"):
        ended(golden, end="hang", proxied=proxied)


def test_what_only_a_proxy_accepts_is_not_lost(golden):
    assert ended(golden, end="proxy", proxied=True).lost == 0
    with pytest.raises(BootError, match="requests were lost at SIGTERM"):
        ended(golden, end="proxy", proxied=False)


def test_other_answers_under_load(golden):
    with pytest.raises(BootError, match="another answer under load: differs by"):
        ended(golden, end="refuse", after=4.0)


def test_nearly_the_same_answers_under_load(golden):
    assert ended(golden, end="refuse", after=3.000001).lost == 0


def test_a_refusal_under_load(golden):
    with pytest.raises(BootError, match="answers 503"):
        ended(golden, end="refuse", status=503)


def test_another_exit_code(golden):
    with pytest.raises(BootError, match="ended with exit code 1 at SIGTERM"):
        ended(golden, end="refuse", code=1)


def test_a_slow_model_is_loaded_with_less(golden, monkeypatch):
    monkeypatch.setattr(drain, "LONGEST_LOAD", 0.5)
    monkeypatch.setattr(drain, "LEAST", 10_000)
    entry = ended(golden, end="refuse")
    assert 8 <= entry.answered < 10_000
