"""Clients that stop reading their answer: the kernel ends their connections."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path


def end_stalled(port: int, seconds: float) -> int:
    """Whoever connects to `port` of this process from now on, and takes nothing of what waits for it for
    `seconds`, is cut off: its answer is in memory until then. How many sockets were set; 0 but on Linux.

    Accepted connections get the option TCP_USER_TIMEOUT of tcp(7) from the socket that listens.
    """
    if not sys.platform.startswith("linux"):
        return 0
    found = 0
    for listening in _listening(port):
        with listening:
            listening.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000))
            )
            found += 1
    return found


def _listening(port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's own listening sockets."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            one = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue  # closed meanwhile
        if _is_listening(one, port):
            yield one
        else:
            one.close()


def _is_listening(one: socket.socket, port: int) -> bool:
    if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
        return False
    listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listens) and one.getsockname()[1] == port
