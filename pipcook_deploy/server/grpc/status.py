"""HTTP statuses of the server's refusals as gRPC's status codes."""

from typing import Any

from pipcook_deploy.server.call import ExpiredError
from pipcook_deploy.server.errors import HttpError

# https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED", 409: "FAILED_PRECONDITION", 413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}  # fmt: skip
# Clients that retry by themselves wait as long as this says.
PUSHBACK = "grpc-retry-pushback-ms"


def code(error: HttpError) -> Any:
    """The member of grpc.StatusCode."""
    from grpc import StatusCode

    if isinstance(error, ExpiredError):
        return StatusCode.DEADLINE_EXCEEDED
    return StatusCode[CODES.get(error.status, "INTERNAL")]


def trailing(error: HttpError) -> tuple[tuple[str, str], ...]:
    """Metadata that goes with the error: when to come again."""
    seconds = error.headers.get("retry_after", "")
    return ((PUSHBACK, str(1000 * int(seconds))),) if seconds.isdigit() else ()
