"""Where a container's server is, as seen from here."""

import socket
from collections.abc import Mapping
from typing import Any

SECONDS = 0.5


def address(network: Mapping[str, Any], port: int, *, direct: bool) -> tuple[str, int, bool] | None:
    """Host, port and whether a proxy stands between, of what an engine says of a container's network.

    None if it has none. Its own address is taken if it is `direct`, that is, of this machine: it goes past the
    engine's proxy, which accepts connections that the server has not.
    """
    for one in (network.get("Networks") or {}).values():
        if direct and one.get("IPAddress") and reachable(one["IPAddress"], port):
            return one["IPAddress"], port, False
    published = (network.get("Ports") or {}).get(f"{port}/tcp")
    return ("127.0.0.1", int(published[0]["HostPort"]), True) if published else None


def reachable(host: str, port: int) -> bool:
    """Whether an address can be connected to, whoever listens there. A refusal counts: someone is there to refuse."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
