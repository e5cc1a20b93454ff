"""The end under load: SIGTERM while requests come as fast as they are answered; none may be lost."""

import http.client
import threading
import time
from dataclasses import dataclass, field

from pipcook_deploy.compare import compare_outputs
from pipcook_deploy.errors import BootError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.contracts import HEAD_LENGTH, binary_answer, binary_request
from pipcook_deploy.images.engine import Container
from pipcook_deploy.images.golden import Golden
from pipcook_deploy.images.record import DrainEntry

CLIENTS = 8
LEAST = 40  # answers before SIGTERM
LONGEST_LOAD, LONGEST_END = 30.0, 40.0  # seconds
CONNECTING = 5.0
ANSWERING = 60.0

Address = tuple[str, int, bool]  # host, port, and whether a proxy of the engine's stands between


@dataclass(frozen=True)
class Load:
    """What every client asks, and what it has to hear: the same each time, or as good."""

    golden: Golden
    path: str
    body: bytes
    headers: dict[str, str]
    expected: bytes

    @classmethod
    def of(cls, golden: Golden, server: Server) -> "Load":
        """Raises `BootError`."""
        path, body, headers = binary_request(golden.bundle.spec, golden.request())
        return cls(golden, path, body, headers, server.post(path, body, headers).body)

    def problem(self, status: int, body: bytes, length: str | None) -> str | None:
        """What is wrong with an answer; None if nothing is."""
        if status != 200:
            return f"POST {self.path} answered {status}"
        if body == self.expected:
            return None
        spec = self.golden.bundle.spec
        try:
            known, found = (binary_answer(spec, part, length) for part in (self.expected, body))
        except (LookupError, TypeError, ValueError, BootError) as error:
            return f"POST {self.path}: the answer has another form under load: {error!r}"
        rows = compare_outputs(known, found, self.golden.tolerance)
        return next((f"another answer under load: {r.reason}" for r in rows if not r.passed), None)


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


def end_under_load(container: Container, address: Address, load: Load) -> DrainEntry:
    """End the container with SIGTERM under load. Raises `BootError` if a request is lost, or it does not end with 0.

    A connection that cannot be made any more is no loss. Nor is one that only the engine's proxy has accepted after
    SIGTERM: it does so for a server that has gone, and such a connection brings no answer at all.
    """
    tally, stop = Tally(), threading.Event()
    arguments = (address, load, tally, stop)
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
    if code is None:
        raise BootError(f"the server did not end within {LONGEST_END:.0f} s of SIGTERM")
    tally.lost += ["no answer came"] * sum(client.is_alive() for client in clients)
    if tally.lost:
        raise BootError(f"{len(tally.lost)} requests were lost at SIGTERM: {tally.lost[0]}")
    if code != 0:
        raise BootError(f"the server ended with exit code {code} at SIGTERM")
    return DrainEntry(
        answered=tally.answered, after_sigterm=tally.after, lost=0, seconds=seconds, exit_code=code
    )


def _wait_for_load(tally: Tally) -> None:
    """Until enough were answered; of a slow model one for each client."""
    end = time.monotonic() + LONGEST_LOAD
    while tally.answered < LEAST and not tally.lost:
        if time.monotonic() > end:
            if tally.answered >= CLIENTS:
                return
            raise BootError(f"only {tally.answered} requests were answered in {LONGEST_LOAD:.0f} s")
        time.sleep(0.01)


def _client(address: Address, load: Load, tally: Tally, stop: threading.Event) -> None:
    host, port, proxied = address
    while not stop.is_set():
        late = tally.ending
        connection = http.client.HTTPConnection(host, port, timeout=CONNECTING)
        try:
            connection.connect()
        except OSError as error:
            if not tally.ending:
                tally.lost.append(f"no connection before SIGTERM: {error}")
            return
        connection.sock.settimeout(ANSWERING)
        try:
            connection.request("POST", load.path, load.body, load.headers)
            answer = connection.getresponse()
            problem = load.problem(answer.status, answer.read(), answer.getheader(HEAD_LENGTH))
        except (OSError, http.client.HTTPException) as error:
            silent = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
            if not (proxied and late and silent):
                tally.lost.append(f"POST {load.path}: {error!r}")
            return
        finally:
            connection.close()
        if problem is None:
            tally.took()
        else:
            tally.lost.append(problem)
