"""Files of a multipart/form-data body, in memory: the body has been limited before."""

import logging
from dataclasses import dataclass, field
from typing import Any

from pipcook_deploy.server.errors import HttpError

# Its parser tells of every malformed body; without a handler that went to stderr, past the server's log.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


@dataclass
class Part:
    """One part of a form."""

    name: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


def parts(content_type: str, body: bytes, limit: int) -> list[Part]:
    """Parts in order. 400 for what is malformed or incomplete, or has more than `limit` parts."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise HttpError(400, "the content type has no multipart boundary")
    collector = _Collector(limit)
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise HttpError(400, f"the multipart body is malformed: {error}") from None
    if not collector.ended:
        raise HttpError(400, "the multipart body is incomplete: its last boundary is missing")
    return collector.parts


class _Collector:
    def __init__(self, limit: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._limit = limit
        self._field = bytearray()
        self._value = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self.parts[-1].data.extend(data[start:end]),
            "on_header_begin": self._header_begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._name,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self._limit:
            raise HttpError(400, f"the form has more than {self._limit} parts")
        self.parts.append(Part())

    def _header_begin(self) -> None:
        self._field.clear()
        self._value.clear()

    def _header_end(self) -> None:
        name = self._field.decode("latin-1").strip().lower()
        self.parts[-1].headers[name] = self._value.decode("latin-1")

    def _name(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self.parts[-1].headers.get("content-disposition", ""))
        self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True
