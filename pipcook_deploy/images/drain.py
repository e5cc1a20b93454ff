"""The end under load: SIGTERM while requests come as fast as they are answered; none may be lost."""

import http.client
import socket
import threading
import time
from dataclasses import dataclass, field

from pipcook_deploy.errors import BootError
from pipcook_deploy.images.engine import Container
from pipcook_deploy.images.record import DrainEntry

CLIENTS = 8
LEAST = 40  # answers before SIGTERM
LONGEST_LOAD, LONGEST_END = 30.0, 40.0  # seconds
CONNECTING = 5.0
ANSWERING = 60.0


@dataclass
class Tally:
    """What became of the requests."""

    answered: int = 0
    after: int = 0
    lost: list[str] = field(default_factory=list)
    ending: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self) -> None:
        """One was answered."""
        with self.lock:
            self.answered += 1
            self.after += self.ending


def end_under_load(
    container: Container, address: tuple[str, int, bool], request: tuple[str, bytes, dict[str, str]]
) -> DrainEntry:
    """End the container with SIGTERM under load. Raises `BootError` if a request is lost, or it does not end with 0.

    A connection that cannot be made any more is no loss. Nor is one that only the engine's proxy has accepted: it
    does so for a server that has gone; such a connection brings no answer at all.
    """
    host, port, proxied = address
    tally = Tally()
    stop = threading.Event()
    arguments = (host, port, proxied, request, tally, stop)
    clients = [
        threading.Thread(target=_client, args=arguments, daemon=True) for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        _wait_for_load(tally)
        start = time.monotonic()
        tally.ending = True
        container.signal("SIGTERM")
        code = container.wait(LONGEST_END)
        seconds = time.monotonic() - start
    finally:
        stop.set()
        for client in clients:
            client.join(CONNECTING)
    if tally.lost:
        raise BootError(f"{len(tally.lost)} requests were lost at SIGTERM: {tally.lost[0]}")
    if code is None:
        raise BootError(f"the server did not end within {LONGEST_END:.0f} s of SIGTERM")
    if code != 0:
        raise BootError(f"the server ended with exit code {code} at SIGTERM")
    return DrainEntry(
        answered=tally.answered, after_sigterm=tally.after, lost=0, seconds=seconds, exit_code=code
    )


def _wait_for_load(tally: Tally) -> None:
    end = time.monotonic() + LONGEST_LOAD
    while tally.answered < LEAST and not tally.lost:
        if time.monotonic() > end:
            raise BootError(f"only {tally.answered} requests were answered in {LONGEST_LOAD:.0f} s")
        time.sleep(0.01)


def _client(
    host: str,
    port: int,
    proxied: bool,
    request: tuple[str, bytes, dict[str, str]],
    tally: Tally,
    stop: threading.Event,
) -> None:
    path, body, headers = request
    while not stop.is_set():
        connection = http.client.HTTPConnection(host, port, timeout=CONNECTING)
        try:
            connection.connect()
        except OSError as error:
            if not tally.ending:
                tally.lost.append(f"no connection before SIGTERM: {error}")
            return
        assert isinstance(connection.sock, socket.socket)
        connection.sock.settimeout(ANSWERING)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                tally.took()
            else:
                tally.lost.append(f"POST {path} answered {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            silent = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
            if not (proxied and tally.ending and silent):
                tally.lost.append(f"POST {path}: {error!r}")
            return
        finally:
            connection.close()
