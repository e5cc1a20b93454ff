"""Starts the server and ends it: port, signals, draining."""

import asyncio
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.server.access.stalled import end_stalled
from pipcook_deploy.server.access.tls import tls_files
from pipcook_deploy.server.app import App, Context
from pipcook_deploy.server.models.load import load
from pipcook_deploy.server.models.registry import Registry
from pipcook_deploy.server.observe.logs import event, logged
from pipcook_deploy.server.observe.metrics import ServerMetrics
from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings

Ready = Callable[[str], None]
SETTLE_SECONDS = 0.15
# A thread that ends a computation gets the interpreter back this soon from a busy event loop.
SWITCH_SECONDS = 0.005


def serve(
    served: ServedModel,
    *,
    host: str = "127.0.0.1",
    port: int = 9091,
    settings: Settings | None = None,
    ready: Ready | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is in flight and return.

    `ready` is called with the server's URL as soon as it accepts connections. `port` 0 takes a free one.
    Raises `ServerError` if the port is taken or the artifact cannot be loaded.
    """
    settings = settings or Settings()
    port = free_port(host, port)
    tls_files(settings.tls_cert, settings.tls_key)
    app = build_app(served, settings, host)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with logged(settings), asyncio.Runner(loop_factory=_new_loop()) as runner:
            runner.run(_serve(app, host, port, ready))
    finally:
        app.context.close()


def build_app(served: ServedModel, settings: Settings, listening: str = "") -> App:
    """The application without a socket; `listening` is the address that it will have."""
    from pipcook_deploy.server.protocols.clouds import environment_routes
    from pipcook_deploy.server.routes import ROUTES, Router

    registry = Registry()
    registry.add(load(served, settings))
    context = Context(registry, settings, ServerMetrics(), listening)
    asked_for = environment_routes(os.environ, ROUTES)
    context.access.open |= {path for method, path, _ in asked_for if method == "GET"}
    return App(context, Router([*ROUTES, *asked_for]))


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which is a quarter faster, where it can be had."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises `ServerError` saying what to do if it cannot be had.

    granian itself would share a taken port with the process that has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise ServerError(f"{port} is not a port", "choose one from 0 to 65535") from None
        except OSError as error:
            raise ServerError(_why(error, host, port), "choose another: --port 9092") from error
        return int(probe.getsockname()[1])


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}"


async def _serve(app: App, host: str, port: int, ready: Ready | None) -> None:
    server = _granian(app, host, port)
    beside = await _grpc(app.context, host)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    serving = loop.create_task(server.serve())
    ending = loop.create_task(ended.wait())
    scheme = "https" if app.context.settings.tls_cert else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    await _accepting(host, port, serving)
    end_stalled(port, app.context.settings.send_timeout)
    event("serving", url=url, pid=os.getpid())
    if ready is not None:
        ready(url)
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    event("draining", in_flight=app.in_flight)
    await asyncio.gather(_drain(app), beside())
    event("stopped", unanswered=app.in_flight)
    ending.cancel()
    server.stop()
    await serving
    # granian's threads let go of their last Python objects after it says that it has ended; a
    # thread that does so while the interpreter shuts down aborts the process.
    await asyncio.sleep(SETTLE_SECONDS)


async def _grpc(context: Context, host: str) -> Callable[[], Awaitable[None]]:
    """Starts gRPC if it is wanted; what is returned ends it, once its calls are answered."""
    if not context.settings.grpc_port:
        return partial(asyncio.sleep, 0)
    from pipcook_deploy.server.grpc.start import start

    server = await start(context, host, context.settings.grpc_port)
    return partial(server.stop, context.settings.drain_timeout)


async def _accepting(host: str, port: int, serving: "asyncio.Task[Any]") -> None:
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(target, port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        await writer.wait_closed()
        return


async def _drain(app: App) -> None:
    """Readiness says no from now on; requests that have begun are answered."""
    app.context.draining = True
    end = asyncio.get_running_loop().time() + app.context.settings.drain_timeout
    await asyncio.sleep(0.05)  # what a socket has already accepted begins
    while app.in_flight and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)


def _granian(app: App, host: str, port: int) -> Any:
    try:
        from granian.constants import HTTPModes, Interfaces, SSLProtocols
        from granian.http import HTTP1Settings
        from granian.server.embed import Server
    except ImportError:
        raise MissingDependencyError(
            "the server needs granian", "run: pip install pipcook-deploy"
        ) from None
    cert, key = tls_files(app.context.settings.tls_cert, app.context.settings.tls_key) or (
        None,
        None,
    )
    settings = app.context.settings
    http1 = HTTP1Settings(
        header_read_timeout=int(settings.header_timeout * 1000),
        max_buffer_size=max(8192, settings.max_header),
    )
    return Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=http1,
        websockets=False,
        ssl_cert=cert,
        ssl_key=key,
        ssl_protocol_min=SSLProtocols.tls12,
        backlog=1024,
        # granian's own 128 connections are used up by as many idle clients.
        backpressure=settings.max_connections,
        log_enabled=False,
    )
