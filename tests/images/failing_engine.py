"""An engine that dies: a proxy before the real one that hangs up, at once and for good, when it is told to."""

import socket
import threading
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes between clients and the real engine until an answer has what it waits for."""

    def __init__(self, path, real, until):
        self.path, self._real, self._until = path, real, until
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._open = set()
        self._lock = threading.Lock()
        self.dead = threading.Event()

    def serve(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._real)
            with self._lock:
                self._open |= {client, engine}
            for pair in ((client, engine, b""), (engine, client, self._until)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def die(self):
        self.dead.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.path.unlink(missing_ok=True)
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.die()
        with self._lock:
            for one in self._open:
                one.close()

    def _pass(self, source, target, until):
        seen = b""
        with suppress(OSError):
            while data := source.recv(65536):
                seen = (seen + data)[-100_000:] if until else b""
                if until and until in seen:
                    self.die()
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def engine_that_dies(folder, real, until):
    """The address of an engine that dies once it has said `until`."""
    proxy = Proxy(folder / "docker.sock", real.removeprefix("unix://"), until)
    serving = threading.Thread(target=proxy.serve, daemon=True)
    serving.start()
    try:
        yield f"unix://{proxy.path}", proxy
    finally:
        proxy.close()
        serving.join(5)
