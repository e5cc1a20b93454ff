"""`python -m pipcook_deploy.server.engines.litert_child FD`: runs one TFLite artifact for the process at the other end.

FD is a socket: first the artifact and the number of threads come in, then inputs; outputs or errors go back. The end
of the other process ends this one.
"""

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import DeployError
from pipcook_deploy.server.engines.litert import LiteRtEngine
from pipcook_deploy.server.errors import InferenceError


def main(fd: int) -> None:
    """Answer until the other end is closed."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is the server's to handle: it drains first
    with Connection(fd) as connection, suppress(EOFError, ConnectionError):
        data, threads = connection.recv()
        try:
            engine = LiteRtEngine(Artifact.from_json(data), threads)
        except DeployError as error:
            connection.send((type(error), error.message, error.hint))
            return
        connection.send(None)
        while True:
            inputs = connection.recv()
            try:
                connection.send(engine.run(inputs))
            except InferenceError as error:
                connection.send(error.reason)


if __name__ == "__main__":
    main(int(sys.argv[1]))
