"""Whether an address can be connected to from here, whoever listens there."""

import socket

SECONDS = 0.5


def reachable(host: str, port: int) -> bool:
    """A refusal counts: someone is there to refuse."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
