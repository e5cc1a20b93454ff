"""Ports: checked before they are used, and held for workers that share one."""

import errno
import socket

from pipcook_deploy.errors import ServerError


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises `ServerError` saying what to do if it cannot be had.

    granian itself would share a taken port with the process that has it.
    """
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bound(probe, host, port)


def held_port(host: str, port: int) -> tuple[int, socket.socket]:
    """The same, and a socket that keeps the port from other programs while it is open.

    It does not listen: connections go to the workers, each of which listens with SO_REUSEPORT. The kernel shares
    new connections out among them evenly; one socket that all accept from would give most to one of them.
    """
    port = free_port(host, port)
    holding = _socket(host)
    try:
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return _bound(holding, host, port), holding
    except ServerError:
        holding.close()
        raise


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM)


def _bound(one: socket.socket, host: str, port: int) -> int:
    try:
        one.bind((host, port))
    except OverflowError:
        raise ServerError(f"{port} is not a port", "choose one from 0 to 65535") from None
    except OSError as error:
        raise ServerError(_why(error, host, port), "choose another: --port 9092") from error
    return int(one.getsockname()[1])


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}"
