"""The server's log: one line an event, as JSON or text, without anything that users sent but names.

A query, a body, a key or any other header is never in it; control characters are escaped.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter, time
from typing import TYPE_CHECKING, Protocol

from pipcook_deploy.server.observe.lines import LINES
from pipcook_deploy.server.observe.trace import trace_id
from pipcook_deploy.server.settings import Settings

if TYPE_CHECKING:
    from pipcook_deploy.server.http import Answer
    from pipcook_deploy.server.models.loaded import LoadedModel

logger = logging.getLogger("pipcook_deploy.server")
LONGEST_PATH = 200
# Always logged, like every 5xx: who was not let in, and whose request was too large or too slow.
REFUSED = frozenset({401, 403, 408, 413, 421, 429})
BUSY_SECONDS = 1.0  # in which one 503 gets its line, and others are counted
PLAIN = re.compile(r"[!#-<>-~]+")  # visible ASCII but for " and =


def line(form: str, level: str, message: str, fields: dict[str, object], at: float) -> str:
    """One line of the log; `form` is "json" or "text", `at` seconds since 1970."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    if form == "json":
        return _ascii({"time": moment, "level": level, "message": message, **fields})
    said = [f"{key}={_value(value)}" for key, value in fields.items() if value not in ("", None)]
    return " ".join([moment, f"{level:7}", _ascii(message)[1:-1], *said])


def event(message: str, level: int = logging.INFO, **fields: object) -> None:
    """Log that something happened to the server or a model."""
    logger.log(level, "%s", message, extra={"fields": fields})


@contextmanager
def logged(settings: Settings) -> Iterator[None]:
    """Write what the server's loggers say to stderr, in the settings' form, until this ends."""
    handler = _Handler(settings.log_format)
    before = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
        LINES.flush()


class Asked(Protocol):
    """What the log says of a request, whatever protocol it came by."""

    @property
    def request_id(self) -> str: ...
    @property
    def traceparent(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def started(self) -> float: ...
    @property
    def model(self) -> "LoadedModel | None": ...


class RequestLog:
    """Says which requests were answered: all of them, or those that failed.

    Of those that fail by the thousand, for the server is overloaded, it says how many: to write a line costs as much
    as to refuse a request. All methods are the event loop's.
    """

    def __init__(self, settings: Settings) -> None:
        self.all = settings.log_requests == "all"
        self._form = settings.log_format
        self._counting = False
        self._more = 0

    def answered(self, request: Asked, answer: "Answer") -> None:
        """To be called for every answer if `all`, else at least for those of 401 and more."""
        status = answer.status
        if not self.all and status < 500 and status not in REFUSED:
            return
        if status == 503 and not self.all and self._one_of_many():
            return
        level = "error" if status >= 500 else "warning" if status in REFUSED else "info"
        model = request.model
        fields: dict[str, object] = {
            "request_id": request.request_id,
            "trace_id": trace_id(request.traceparent),
            "method": request.method[:LONGEST_PATH],
            "path": request.path[:LONGEST_PATH],
            "status": status,
            "ms": round((perf_counter() - request.started) * 1000, 3),
            "model": "" if model is None else model.name,
            "version": "" if model is None else model.version,
            "bytes": len(answer.body),
        }
        LINES.write(line(self._form, level, "answered", fields, time()))

    def _one_of_many(self) -> bool:
        """Whether another 503 has been told a moment ago: then this one is counted."""
        if self._counting:
            self._more += 1
            return True
        self._counting = True
        asyncio.get_running_loop().call_later(BUSY_SECONDS, self._tell)
        return False

    def _tell(self) -> None:
        more, self._more, self._counting = self._more, 0, False
        if more:
            event("overloaded", logging.ERROR, status=503, more=more, seconds=BUSY_SECONDS)


class _Handler(logging.Handler):
    """Of records, with `fields` that `event` gave them and the traceback of a bug."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = dict(getattr(record, "fields", {}))
        trace = ""
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            if self._form == "json":
                fields["exception"] = trace
        text = line(
            self._form, record.levelname.lower(), record.getMessage(), fields, record.created
        )
        if trace and self._form == "text":
            text = "\n".join([text, *("  " + _ascii(row)[1:-1] for row in trace.splitlines())])
        LINES.write(text)


def _ascii(value: object) -> str:
    """JSON in ASCII. What JSON leaves as it is although a terminal may act on it: delete."""
    return json.dumps(value, default=str, separators=(",", ":")).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    plain = isinstance(value, str) and PLAIN.fullmatch(value)
    return str(value) if plain or isinstance(value, int | float) else _ascii(value)
