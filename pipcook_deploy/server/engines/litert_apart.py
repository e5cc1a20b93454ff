"""LiteRT in processes of its own, for models that take long.

Its Python binding holds the interpreter lock while it computes: within the server it would stop everything else.
"""

import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.cpu import cores
from pipcook_deploy.server.errors import InferenceError, OverloadedError

END_SECONDS = 5
CHILD = "pipcook_deploy.server.engines.litert_child"


class LiteRtApart:
    """One process for each request that is computed at the same time; one that dies is replaced."""

    name = "litert"
    platform = "litert_tflite"
    concurrent = True

    def __init__(self, artifact: Artifact, threads: int = 0, streams: int = 1) -> None:
        self.threads = threads or cores()
        self._artifact = artifact
        self._children = [_Child(artifact, self.threads) for _ in range(streams)]
        self._idle = list(self._children)
        self._free = threading.Semaphore(streams)
        for child in self._children:
            child.wait_until_ready()

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names."""
        with self._free:
            child = self._idle.pop()
            try:
                answer = child.ask(inputs)
            except (EOFError, OSError):
                self._children.remove(child)
                child.end()
                child = _Child(self._artifact, self.threads)
                self._children.append(child)
                child.wait_until_ready()
                raise OverloadedError("the engine ended and was started again", 1) from None
            finally:
                self._idle.append(child)
        if isinstance(answer, str):
            raise InferenceError(answer)
        return answer


class _Child:
    """The server's side of one process; it ends with this object."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [
                sys.executable,
                "-P",
                "-m",
                CHILD,
                str(number),
            ]  # -P: no module of this folder
            self._process = subprocess.Popen(command, pass_fds=[number])
        self._connection = Connection(ours.detach())
        self._connection.send((artifact.to_json(), threads))

    def wait_until_ready(self) -> None:
        """Raises the error that made it unfit: the one that `LiteRtEngine` raises."""
        if refused := self._connection.recv():
            kind, message, hint = refused
            raise kind(message, hint)

    def ask(self, inputs: Tensors) -> Tensors | str:
        """Outputs, or the reason why there are none. Raises `EOFError` or `OSError` if it has died."""
        self._connection.send(inputs)
        answer: Tensors | str = self._connection.recv()
        return answer

    def end(self) -> None:
        """At the end of its connection the process ends by itself, unless it hangs."""
        self._connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __del__(self) -> None:
        if not self._connection.closed:
            self.end()
