"""This process's own connections, which granian opens and has no handle for."""

import ctypes
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OTHER_FILES = 256  # models, logs, libraries
# socket(7); Python has no names for them
SO_ATTACH_FILTER, SO_BINDTOIFINDEX = 26, 62
NO_INTERFACE = 0x7FFFFFFF  # a number that none has; Linux lets a socket be bound to it
# Classic BPF: code, jump if true, jump if false, value. A segment with SYN and without ACK asks for a connection.
NO_SYN = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x54, 0, 0, 0x12),  # SYN and ACK of them
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let it pass
)


def allow_connections(count: int) -> None:
    """Let this process, and those that it starts, have so many open at once, as far as the system lets it.

    Often 1024 files may be open and as many as one likes for the asking. Whoever accepts connections and may not
    open them tries again without a pause.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def end_stalled(port: int, seconds: float) -> int:
    """Whoever connects to `port` of this process from now on, and takes nothing of what waits for it for
    `seconds`, is cut off: its answer is in memory until then. How many sockets were set; 0 but on Linux.

    Accepted connections get the option TCP_USER_TIMEOUT of tcp(7) from the socket that listens.
    """
    found = 0
    for listening in _at(port, listening=True):
        with listening:
            listening.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000))
            )
            found += 1
    return found


def stop_listening(port: int) -> None:
    """No one can connect to `port` of this process from now on; those who are connected stay so. On Linux.

    A socket that was shut down would cut off those whose connection has not been accepted yet. So it listens on, to
    an interface that there is not: connections are refused, and another worker's socket is found.
    """
    for listening in _at(port, listening=True):
        with listening:
            try:
                listening.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NO_INTERFACE)
            except OSError:  # before Linux 5.1, or bound to an interface already
                _ask_for_no_connections(listening)


def _ask_for_no_connections(listening: socket.socket) -> None:
    """Drop what asks for a connection; who asked asks again a second later, when the port is closed.

    Newer kernels let only the privileged do so, and a container has no privileges.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in NO_SYN))
    option = struct.pack("HP", len(NO_SYN), ctypes.addressof(program))
    with suppress(OSError):  # of a system that has no such filters
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)


def hang_up(port: int) -> None:
    """Hear no more of those who are connected to `port`: idle connections and unfinished heads end at once, while
    answers that are on their way still arrive.
    """
    for connected in _at(port, listening=False):
        with connected, suppress(OSError):  # gone already
            connected.shutdown(socket.SHUT_RD)


def _at(port: int, *, listening: bool) -> Iterator[socket.socket]:
    """Duplicates of this process's own sockets at a port: those that listen, or those that were accepted."""
    if not sys.platform.startswith("linux"):
        return
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            one = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue  # closed meanwhile
        if _is_at(one, port) and _listens(one) == listening:
            yield one
        else:
            one.close()


def _is_at(one: socket.socket, port: int) -> bool:
    if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
        return False
    return bool(one.getsockname()[1] == port)


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
