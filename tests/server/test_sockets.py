"""What is done to sockets that granian opened."""

import errno
import socket
import sys

import pytest

from pipcook_deploy.server.access import sockets

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets of Linux")


@pytest.fixture
def listening():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(16)
        yield one


def test_no_one_connects_any_more_and_who_waits_is_still_accepted(listening):
    port = listening.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as before:
        sockets.stop_listening(port)
        with pytest.raises(OSError) as refused:
            socket.create_connection(("127.0.0.1", port), timeout=0.5)
        assert (
            refused.value.errno == errno.ECONNREFUSED
        )  # not a time-out: others can be asked at once
        accepted, _ = listening.accept()
        with accepted:
            before.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
            accepted.sendall(b"bye")
            assert before.recv(3) == b"bye"


def test_other_ports_are_left_alone(listening):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        sockets.stop_listening(listening.getsockname()[1])
        socket.create_connection(other.getsockname(), timeout=5).close()
