"""One process that answers: what is in it, how it starts, drains and ends."""

import asyncio
import gc
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pipcook_deploy.errors import MissingDependencyError
from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.server.access.sockets import end_stalled, hang_up, stop_listening
from pipcook_deploy.server.access.tls import tls_files
from pipcook_deploy.server.app import App, Context
from pipcook_deploy.server.job import Job
from pipcook_deploy.server.models.control import Control, state_file
from pipcook_deploy.server.models.registry import Registry
from pipcook_deploy.server.models.shelf import Repository, Shelf
from pipcook_deploy.server.models.store import Store
from pipcook_deploy.server.observe.logs import event, logged
from pipcook_deploy.server.observe.metrics import ServerMetrics
from pipcook_deploy.server.observe.snapshot import snapshot
from pipcook_deploy.server.peers import Peers

Index = list[dict[str, Any]]
SETTLE_SECONDS = 0.15
STOP_SECONDS = 5.0  # for granian, once everything is answered
CANCEL_SECONDS = 1.0
# Signals that come within so long of the first are one: no one presses Ctrl-C twice as fast.
TOGETHER_SECONDS = 0.2
# Whoever has just connected gets so long to send a request when no one can connect any more.
LAST_REQUEST_SECONDS = 0.1
# A thread that ends a computation gets the interpreter back this soon from a busy event loop.
SWITCH_SECONDS = 0.005
COLLECT = (10_000, 10, 10)


class EndNowError(Exception):
    """A second signal."""


class Twice:
    """Whether a signal is a second one. npm, `timeout` and terminals each send what is one wish to a whole group."""

    def __init__(self) -> None:
        self._first = math.inf

    def __call__(self) -> bool:
        """To be called for every signal."""
        now = time.monotonic()
        self._first = min(self._first, now)
        return now - self._first > TOGETHER_SECONDS


class Ending:
    """Asked for once: what is in flight is answered first. Twice: nothing is."""

    def __init__(self) -> None:
        self.soon = asyncio.Event()
        self.now = asyncio.Event()
        self._twice = Twice()

    def __call__(self) -> None:
        """Ask."""
        (self.now if self._twice() else self.soon).set()


def run(
    job: Job,
    listen: Callable[[Callable[[], None]], None],
    ready: Callable[[Index], None],
) -> None:
    """Serve until what `listen` is given is called. Raises what `serve` raises."""
    sys.setswitchinterval(SWITCH_SECONDS)
    # Large requests make many objects at once, which need not be looked through again and again while they are made.
    gc.set_threshold(*COLLECT)
    app, control, peers = build(job)
    try:
        with logged(job.settings), asyncio.Runner(loop_factory=_new_loop()) as runner:
            runner.run(_run(app, control, peers, job, listen, ready))
    except EndNowError:
        raise KeyboardInterrupt from None
    control.close()
    app.context.close()


def build(job: Job) -> tuple[App, Control, Peers]:
    """The application without a socket, and without models: `Control.start` loads them."""
    from pipcook_deploy.server.protocols.clouds import environment_routes
    from pipcook_deploy.server.routes import ROUTES, Router

    settings = job.settings
    first = job.given[0].spec.name if job.given else ""
    registry = Registry(settings.default_model or first)
    peers = Peers(job.shared, job.number)
    folder = job.repository
    watched = Repository(folder, settings.repository_patience) if folder else None
    store = Store(state_file(folder), job.shared)
    control = Control(registry, Shelf(job.given, watched), store, peers, settings)
    context = Context(registry, settings, ServerMetrics(), job.host)
    context.control = control
    if peers:
        peers.on("metrics", lambda _: snapshot(context))
        context.peers = partial(peers.call_all, "metrics")
    asked_for = environment_routes(os.environ, ROUTES)
    context.access.open |= {path for method, path, _ in asked_for if method == "GET"}
    return App(context, Router([*ROUTES, *asked_for])), control, peers


async def _run(
    app: App,
    control: Control,
    peers: Peers,
    job: Job,
    listen: Callable[[Callable[[], None]], None],
    ready: Callable[[Index], None],
) -> None:
    ending = Ending()
    listen(ending)
    await peers.start()
    try:
        if await _unless(ending.soon, control.start()):
            await _serve(app, control, job, ending, ready)
    finally:
        peers.close()
    if ending.now.is_set():
        # What is cut off complains.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        raise EndNowError


async def _unless(event: asyncio.Event, work: Awaitable[Any]) -> bool:
    """Whether it ended before the event came. Raises what it raises."""
    doing, coming = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, coming}, return_when=asyncio.FIRST_COMPLETED)
    coming.cancel()
    if not doing.done():
        doing.cancel()
        await asyncio.wait({doing}, timeout=CANCEL_SECONDS)
        if doing.done() and not doing.cancelled():
            doing.exception()  # of no interest any more
        return False
    await doing
    return True


async def _serve(
    app: App, control: Control, job: Job, ending: Ending, ready: Callable[[Index], None]
) -> None:
    beside = await _grpc(app.context, job)
    server = _granian(app, job)
    serving = asyncio.ensure_future(server.serve())
    await _accepting(job.host, job.port, serving)
    end_stalled(job.port, job.settings.send_timeout)
    event("serving", url=job.url, pid=os.getpid())
    ready(control.index())
    gc.freeze()  # what is there now stays
    with _task(control.watch()), _task(app.context.compute(partial(warm_up, app.context.registry))):
        await _unless(ending.soon, asyncio.shield(serving))
    event("draining", in_flight=app.in_flight)
    await _unless(ending.now, asyncio.gather(_drain(app, job.port), beside()))
    event("stopped", unanswered=app.in_flight)
    hang_up(job.port)
    server.stop()
    # Bounded: a process that was told to end ends, whatever holds a connection open.
    if not await _unless(ending.now, asyncio.wait({serving}, timeout=STOP_SECONDS)):
        return
    # granian's threads let go of their last Python objects after it says that it has ended; a
    # thread that does so while the interpreter shuts down aborts the process.
    await asyncio.sleep(SETTLE_SECONDS)


def warm_up(registry: Registry) -> None:
    """Decode a picture where that will be asked for: the first one takes as long as importing what decodes it."""
    from pipcook_deploy.server.openapi.examples import grey_png

    for model in registry.models():
        if model.predictor.takes == "image":
            with suppress(PreprocessingError):  # too small a picture for a crop
                model.predictor.prepare([grey_png(64, 64)])


@contextmanager
def _task(work: Any) -> Iterator[None]:
    """Something that goes on meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which is a quarter faster, where it can be had."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _grpc(context: Context, job: Job) -> Callable[[], Awaitable[None]]:
    """Starts gRPC if it is wanted; what is returned ends it, once its calls are answered."""
    settings = job.settings
    if not settings.grpc_port:
        return partial(asyncio.sleep, 0)
    from pipcook_deploy.server.grpc.start import start

    server = await start(context, job.host, settings.grpc_port, shared=job.shared is not None)
    return partial(server.stop, settings.drain_timeout)


async def _accepting(host: str, port: int, serving: "asyncio.Future[Any]") -> None:
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


async def _drain(app: App, port: int) -> None:
    """Readiness says no from now on; requests that have begun are answered, and those of the last who connected."""
    app.context.draining = True
    end = asyncio.get_running_loop().time() + app.context.settings.drain_timeout
    await asyncio.sleep(0.05)  # what a socket has already accepted begins
    await _answered(app, end)
    stop_listening(port)
    await asyncio.sleep(LAST_REQUEST_SECONDS)
    await _answered(app, end)


async def _answered(app: App, end: float) -> None:
    """Nothing is in flight, or it is too late."""
    while app.in_flight and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)


def _granian(app: App, job: Job) -> Any:
    try:
        from granian.constants import HTTPModes, Interfaces, SSLProtocols
        from granian.http import HTTP1Settings
        from granian.server.embed import Server
    except ImportError:
        raise MissingDependencyError(
            "the server needs granian", "run: pip install pipcook-deploy"
        ) from None
    settings = job.settings
    cert, key = tls_files(settings.tls_cert, settings.tls_key) or (None, None)
    http1 = HTTP1Settings(
        header_read_timeout=int(settings.header_timeout * 1000),
        max_buffer_size=max(8192, settings.max_header),
    )
    return Server(
        app,
        address=job.host,
        port=job.port,
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
