"""`python -m pipcook_deploy.container.health`: exit code 0 if the server of this container answers /ping with 200.

Run every few seconds in a container with little memory: a socket and nothing else. Where the server listens is read
from the environment; a port or a certificate that only the command line names is not known here.
"""

import os
import socket
import sys
import time
from collections.abc import Mapping

PORTS = ("PIPCOOK_DEPLOY_PORT", "AIP_HTTP_PORT", "PORT")
HOST, CERTIFICATE = "PIPCOOK_DEPLOY_HOST", "PIPCOOK_DEPLOY_TLS_CERT"
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104
DEFAULT_PORT = 9091
SECONDS = 2.0
REQUEST = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def main(environ: Mapping[str, str]) -> int:
    """0 if the server is ready; 1, and why not on standard error, if it is not."""
    try:
        answer = ask(environ)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if answer.split(b" ", 2)[1:2] == [b"200"]:
        return 0
    sys.stderr.write(f"{answer.decode('ascii', 'replace')}\n")
    return 1


def ask(environ: Mapping[str, str]) -> bytes:
    """The first line of the answer. Raises `OSError` if there is none, `ValueError` for a port that is none."""
    port = int(next((environ[name] for name in PORTS if environ.get(name)), DEFAULT_PORT))
    if not 0 < port < 65_536:
        raise ValueError(f"{port} is no port")
    host = environ.get(HOST, "")
    place = ("127.0.0.1" if host in EVERYWHERE else host, port)
    with socket.create_connection(place, timeout=SECONDS) as plain:
        if environ.get(CERTIFICATE):
            with _encrypted(plain) as connection:
                return _first_line(connection)
        return _first_line(plain)


def _first_line(connection: socket.socket) -> bytes:
    """In time as a whole: who sends a byte a second does not answer."""
    end = time.monotonic() + SECONDS
    connection.sendall(REQUEST)
    answer = b""
    while b"\r\n" not in answer and (part := connection.recv(4096)):
        answer += part
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
    return answer.split(b"\r\n", 1)[0]


def _encrypted(plain: socket.socket) -> socket.socket:
    import ssl

    # It asks itself: whose certificate it is does not matter.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


if __name__ == "__main__":
    sys.exit(main(os.environ))
