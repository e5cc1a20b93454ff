"""Starts gRPC beside HTTP, on a port of its own, in the same event loop."""

import os
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.server.access.tls import tls_files
from pipcook_deploy.server.app import Context

STREAMS = 1024  # calls at once of one connection
CALLS = 4096  # and of all; RESOURCE_EXHAUSTED above
# A peer that is gone without a word is noticed after this.
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 60_000, 20_000


class GrpcServer:
    """Made by `start`."""

    def __init__(self, server: Any, port: int) -> None:
        self._server = server
        self.port = port

    async def stop(self, grace: float) -> None:
        """Take no more calls, and wait up to `grace` seconds for those that have begun."""
        await self._server.stop(grace)


async def start(context: Context, host: str, port: int, *, shared: bool = False) -> GrpcServer:
    """Listen on `port`. `shared`: with other processes that do the same.

    Raises `ServerError` if the port cannot be had, `MissingDependencyError` without grpcio.
    """
    # Its C core prints to stderr what is raised as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from google.protobuf import descriptor_pool  # noqa: F401
        from grpc.aio import server as make_server
    except ImportError:
        raise MissingDependencyError(
            "gRPC needs grpcio and protobuf", "run: pip install 'pipcook-deploy[grpc]'"
        ) from None
    from pipcook_deploy.server.grpc.answering import handlers

    server = make_server(maximum_concurrent_rpcs=CALLS, options=_options(context, shared))
    server.add_generic_rpc_handlers((handlers(context),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = _listen(server, address, context)
    except RuntimeError:
        raise ServerError(
            f"gRPC cannot listen on {address}: the port is taken, or is no port of this machine",
            "choose another: --grpc-port 9093",
        ) from None
    await server.start()
    return GrpcServer(server, bound)


def _options(context: Context, shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", context.settings.max_body),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.so_reuseport", int(shared)),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ]


def _listen(server: Any, address: str, context: Context) -> int:
    """With the same certificate as HTTPS; without one in the clear."""
    import grpc

    files = tls_files(context.settings.tls_cert, context.settings.tls_key)
    if files is None:
        return int(server.add_insecure_port(address))
    cert, key = (Path(file).read_bytes() for file in files)
    return int(server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)])))
