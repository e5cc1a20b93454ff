"""Which request, and which trace it belongs to: `x-request-id`, and `traceparent` of W3C's Trace Context."""

import os
import re
from itertools import count

LONGEST_ID = 128
# version, trace id, span id, flags; a later version may add more after them.
TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)

_next = count().__next__
_prefix = os.urandom(8).hex()


def _of_child() -> None:
    """A forked process counts under a name of its own."""
    global _prefix
    _prefix = os.urandom(8).hex()


os.register_at_fork(after_in_child=_of_child)


def new_id() -> str:
    """One that no other request has."""
    return f"{_prefix}-{_next()}"


def request_id(given: str | None) -> str:
    """The client's own, if it is up to 128 visible ASCII characters, or one that no other request has."""
    if (
        given
        and len(given) <= LONGEST_ID
        and given.isascii()
        and given.isprintable()
        and " " not in given
    ):
        return given
    return new_id()


def traceparent(given: str | None) -> str:
    """The header as it came, or "" for one that is not valid: that must not be passed on."""
    if not given or len(given) > LONGEST_ID:
        return ""
    match = TRACEPARENT.fullmatch(given)
    if match is None or (match[1] == "00" and match[3]):
        return ""
    return given


def trace_id(parent: str) -> str:
    """Of a valid `traceparent`; "" for ""."""
    return parent[3:35]
