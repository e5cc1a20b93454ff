"""granian's own limit: RSGI, the body is read, the answer is a constant."""

from typing import Any

HEADERS = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    """Says hello."""
    await protocol()
    protocol.response_bytes(200, HEADERS, b'{"hello":true}')
