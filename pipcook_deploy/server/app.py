"""The RSGI application: finds the route, runs it, and turns every failure into an answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.server.access.guard import Guard
from pipcook_deploy.server.call import GoneError
from pipcook_deploy.server.clock import BodyClock
from pipcook_deploy.server.engines.cpu import cores
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.http import Answer, Request
from pipcook_deploy.server.lag import CROWD, Lag
from pipcook_deploy.server.models.registry import Registry
from pipcook_deploy.server.observe.logs import RequestLog
from pipcook_deploy.server.observe.metrics import ServerMetrics
from pipcook_deploy.server.settings import Settings

if TYPE_CHECKING:
    from pipcook_deploy.server.models.control import Control
    from pipcook_deploy.server.observe.prometheus import Peers
    from pipcook_deploy.server.routes import Router

logger = logging.getLogger("pipcook_deploy.server")
Result = TypeVar("Result")
Handler = Callable[..., Awaitable[Answer]]
Routes = list[tuple[str, str, Handler]]  # method, path with {names}, handler
NOSNIFF = ("x-content-type-options", "nosniff")
STEERING = ("/admin/", "/v2/repository/")


class Context:
    """What handlers share: the models, the limits, and threads for work that takes time."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        metrics: ServerMetrics,
        listening: str = "",
    ) -> None:
        """`listening` is the address of the server's port. Raises `UsageError` for misconfigured access."""
        self.registry = registry
        self.settings = settings
        self.metrics = metrics
        self.clock = BodyClock(settings.body_timeout, settings.max_bodies)
        self.draining = False
        self.access = Guard(settings, listening)
        self.log = RequestLog(settings)
        self.in_flight: Callable[[], int] = int
        self.peers: Peers | None = None
        self.control: Control | None = None
        workers = settings.preparers or max(1, cores() // settings.workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")

    @property
    def ready(self) -> bool:
        """Whether a load balancer should send requests: there is a model, and the server does not end."""
        return not self.draining and any(e.versions for e in self.registry.entries.values())

    async def compute(self, work: Callable[[], Result]) -> Result:
        """Run `work` off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for the threads."""
        self.registry.close()
        self._pool.shutdown()


@cache
def gone() -> tuple[type[Exception], ...]:
    """What is raised when the client has left."""
    from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

    return (ProtocolClosed, ProtocolError, GoneError)


class App:
    """Called by granian for each request."""

    def __init__(self, context: Context, router: "Router") -> None:
        self.context = context
        self.router = router
        self.in_flight = 0
        self._lag = Lag(context.settings.queue_seconds)
        context.in_flight = lambda: self.in_flight

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one request; a client that has gone away ends it silently."""
        if scope.proto != "http":
            protocol.close(403)
            return
        context = self.context
        self.in_flight = in_flight = self.in_flight + 1
        request = Request(scope, protocol, context.settings, context.clock)
        request.alone = in_flight == 1
        try:
            try:
                answer = context.access.before(request) if context.access.active else None
                if answer is None:
                    handler, names = self.router.find(request)
                    if in_flight >= CROWD:
                        self._make_way(request, in_flight)
                    answer = await handler(context, request, **names)
            except gone():
                raise
            except (HttpError, PreprocessingError) as error:
                answer = self._refused(error, request)
                await request.let_finish()
            except Exception:  # a bug: logged here, and never shown to the caller
                logger.exception("%s %s failed", request.method, request.path)
                answer = self.router.error_body(request.path)(500, "internal error")
            protocol.response_bytes(answer.status, self._headers(answer, request), answer.body)
        except gone():
            logger.debug("client went away")
        else:
            context.metrics.answered(request.model, answer.status, perf_counter() - request.started)
            if answer.status > 400 or context.log.all:
                context.log.answered(request, answer)
        finally:
            self.in_flight -= 1
            if request.held:
                context.clock.release(request.held)

    def _headers(self, answer: Answer, request: Request) -> list[tuple[str, str]]:
        headers = [NOSNIFF, ("x-request-id", request.request_id)]
        trace = request.traceparent
        if trace:
            headers.append(("traceparent", trace))
        if answer.body:
            headers.append(("content-type", answer.content_type))
        if answer.headers:
            headers += [(k.replace("_", "-"), v) for k, v in answer.headers.items()]
        if self.context.access.shares:
            headers += self.context.access.after(request)
        if self.context.draining:
            headers.append(("connection", "close"))
        return headers

    def _make_way(self, request: Request, in_flight: int) -> None:
        """While the loop is behind, predictions are refused: those who watch and steer the server get through."""
        if request.method == "POST" and not request.path.startswith(STEERING):
            self._lag.check(in_flight)

    def _refused(self, error: HttpError | PreprocessingError, request: Request) -> Answer:
        word = self.router.error_body(request.path)
        if isinstance(error, PreprocessingError):
            return word(400, str(error).replace("\n", "; "))
        worded = word(error.status, error.reason)
        return Answer(worded.status, worded.body, worded.content_type, error.headers)
