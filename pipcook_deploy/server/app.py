"""The RSGI application: finds the route, runs it, and turns every failure into an answer."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pipcook_deploy.preprocess.errors import PreprocessingError
from pipcook_deploy.server.engine import InferenceError
from pipcook_deploy.server.http import Answer, HttpError, Request
from pipcook_deploy.server.predictor import Predictor
from pipcook_deploy.server.served import Settings

if TYPE_CHECKING:
    from pipcook_deploy.server.routes import Router

logger = logging.getLogger("pipcook_deploy.server")
Result = TypeVar("Result")
SAFETY = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class Context:
    """What handlers share: the predictor, the limits, and threads for work that takes time."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self.predictor = predictor
        self.settings = settings
        self.draining = False
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="compute")

    async def compute(self, work: Callable[[], Result]) -> Result:
        """Run `work` off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown()


@cache
def gone() -> tuple[type[Exception], ...]:
    """What granian raises when the client has left."""
    from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

    return (ProtocolClosed, ProtocolError)


class App:
    """Called by granian for each request."""

    def __init__(self, context: Context, router: "Router") -> None:
        self.context = context
        self.router = router
        self.in_flight = 0

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one request; a client that has gone away ends it silently."""
        if scope.proto != "http":
            protocol.close(403)
            return
        self.in_flight += 1
        try:
            answer = await self._answer(scope, protocol)
            headers = list(SAFETY.items())
            if answer.body:
                headers.append(("content-type", answer.content_type))
            headers += [(k.replace("_", "-"), v) for k, v in answer.headers.items()]
            if self.context.draining:
                headers.append(("connection", "close"))
            protocol.response_bytes(answer.status, headers, answer.body)
        except gone():
            logger.debug("client went away")
        finally:
            self.in_flight -= 1

    async def _answer(self, scope: Any, protocol: Any) -> Answer:
        request = Request(
            scope.method,
            scope.path,
            scope.query_string,
            scope.headers,
            self.context.settings,
            protocol,
        )
        word = self.router.error_body(request.path)
        try:
            return await self.router.answer(self.context, request)
        except gone():
            raise
        except HttpError as error:
            worded = word(error.status, error.reason)
            return Answer(worded.status, worded.body, worded.content_type, error.headers)
        except PreprocessingError as error:
            return word(400, str(error).replace("\n", "; "))
        except InferenceError as error:
            return word(400, str(error))
        except Exception:  # a bug: logged here, and never shown to the caller
            logger.exception("%s %s failed", request.method, request.path)
            return word(500, "internal error")
