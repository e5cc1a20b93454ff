"""A container's health check: what counts as ready, where it asks, and that it ends in time."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from unittest.mock import patch

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipcook_deploy.cli.serving import serve
from pipcook_deploy.container import health
from pipcook_deploy.errors import UsageError
from pipcook_deploy.server.listen import address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NAMES = ("PIPCOOK_DEPLOY_PORT", "AIP_HTTP_PORT", "PORT")


@contextmanager
def answering(*parts, pause=0.0, context=None, host="127.0.0.1"):
    """The port of a server that answers each connection with these parts, and what it was asked."""
    asked = []

    def answer(plain):
        try:
            with context.wrap_socket(plain, server_side=True) if context else plain as connection:
                asked.append(connection.recv(4096))
                for part in parts:
                    connection.sendall(part)
                    if ended.wait(pause):
                        return
        except OSError:
            asked.append(b"")

    def serve_all():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain:
                answer(plain)

    ended = threading.Event()
    listener = socket.create_server((host, 0))
    thread = threading.Thread(target=serve_all)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_ready_server_is_healthy():
    with answering(OK) as (port, asked):
        assert health.main({"PORT": str(port)}) == 0
    assert asked[0].startswith(b"GET /ping HTTP/1.1\r\nHost: ")


def test_an_answer_in_pieces_is_one():
    with answering(b"HT", b"TP/1.1 2", b"00 OK\r", b"\n\r\n", pause=0.02) as (port, _):
        assert health.main({"PORT": str(port)}) == 0


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 503 Service Unavailable",
        b"HTTP/1.1 404 Not Found",
        b"HTTP/1.1 2000 Odd",
        b"HTTP/1.1 500 200 OK",
        b"200",
        b"\xff\xfe",
        b"",
    ],
)
def test_any_other_answer_is_not_and_is_shown(line, capsys):
    with answering(line + b"\r\n\r\n") as (port, _):
        assert health.main({"PORT": str(port)}) == 1
    assert capsys.readouterr().err == line.decode("ascii", "replace") + "\n"


def test_no_answer_at_all_is_not_healthy():
    with answering() as (port, _):
        assert health.main({"PORT": str(port)}) == 1


def test_where_nothing_listens_it_says_so(capsys):
    assert health.main({"PORT": str(free_port())}) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["http", "80.5", "²", "-1", "65536", "99999999999999999999", "0"])
def test_what_is_no_port_is_not_healthy_and_no_error(text, capsys):
    assert health.main({"PORT": text}) == 1
    assert capsys.readouterr().err


@pytest.mark.parametrize("parts", [[b""], [b"x"] * 100], ids=["silence", "a byte now and then"])
def test_a_server_that_hangs_is_not_waited_for(parts, monkeypatch, capsys):
    monkeypatch.setattr(health, "SECONDS", 0.4)
    with answering(*parts, pause=0.1 if len(parts) > 1 else 20) as (port, _):
        begun = time.monotonic()
        assert health.main({"PORT": str(port)}) == 1
        assert 0.3 < time.monotonic() - begun < 2
    assert "timed out" in capsys.readouterr().err


def test_it_gives_up_before_the_engine_does():
    assert (
        2 * health.SECONDS < 5
    )  # to connect and to read, and --timeout of the image's HEALTHCHECK


def test_as_a_program_its_exit_code_says_it():
    command = [sys.executable, "-m", "pipcook_deploy.container.health"]
    with answering(OK) as (port, _):
        environment = os.environ | {"PIPCOOK_DEPLOY_PORT": str(port)}
        assert subprocess.run(command, env=environment).returncode == 0
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_it_loads_next_to_nothing():
    code = (
        "import sys; from pipcook_deploy.container import health\n"
        "sys.exit(', '.join({'numpy', 'pydantic', 'click', 'ssl', 'granian'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def asked_place(environ):
    """Where the health check connects to; None if to no place."""
    places = []

    def connect(place, timeout):
        places.append(place)
        raise ConnectionRefusedError("refused")

    with patch.object(socket, "create_connection", connect):
        assert health.main(environ) == 1
    return places[0] if places else None


def served_place(environ):
    """Where `pipcook-deploy serve` listens; None if it refuses to start."""
    with patch.dict(os.environ, environ, clear=True):
        try:
            given = serve.make_context("serve", ["model"]).params
            return address(given["host"], given["port"], environ)
        except (UsageError, click.UsageError):
            return None


PORT_TEXT = st.one_of(
    st.just(""),
    st.integers(1, 65535).map(str),
    st.sampled_from(["0", "080", " 80", "1_000", "８０", "65536", "-1", "http", "+80"]),
)
HOST_TEXT = st.sampled_from(["", "127.0.0.1", "0.0.0.0", "::", "::1", "192.0.2.7", "localhost"])
ENVIRON = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NAMES, PORT_TEXT) | {"PIPCOOK_DEPLOY_HOST": HOST_TEXT}
)


@given(ENVIRON)
@example({})
@example({"PIPCOOK_DEPLOY_PORT": "1", "AIP_HTTP_PORT": "2", "PORT": "3"})
@example({"AIP_HTTP_PORT": "2", "PORT": "3"})
@example({"PIPCOOK_DEPLOY_PORT": "", "PORT": "3"})
def test_it_asks_where_the_same_environment_lets_the_server_listen(environ):
    served = served_place(environ)
    asked = asked_place(environ)
    if served is not None and served[1] != 0:  # any free one, which only the server knows
        host, port = served
        assert asked == ("127.0.0.1" if host in ("0.0.0.0", "::") else host, port)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]  # fmt: skip
    made = ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=elsewhere"]
    subprocess.run([*command, *made], check=True, capture_output=True, cwd=folder)
    return folder / "cert.pem", folder / "key.pem"


def test_with_a_certificate_it_asks_encrypted_whoever_signed_that(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with answering(OK, context=context) as (port, asked):
        environ = {"PORT": str(port), "PIPCOOK_DEPLOY_TLS_CERT": str(certificate[0])}
        assert health.main(environ) == 0
        assert asked[0].startswith(b"GET /ping ")
        assert health.main({"PORT": str(port)}) == 1


def test_a_server_that_does_not_encrypt_though_it_should_is_not_healthy(certificate, capsys):
    with answering(OK) as (port, _):
        environ = {"PORT": str(port), "PIPCOOK_DEPLOY_TLS_CERT": str(certificate[0])}
        assert health.main(environ) == 1
    assert capsys.readouterr().err
