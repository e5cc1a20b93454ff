"""Errors that are answers: a status and a reason, worded by whichever protocol was spoken."""

from http import HTTPStatus


class HttpError(Exception):
    """An answer of 4xx or 503; each protocol words its own body around `reason`."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class InferenceError(HttpError):
    """The engine refuses these tensors: the caller's mistake, worded for the caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, reason)


class OverloadedError(HttpError):
    """Full: the client should come again after `seconds`."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(503, reason, retry_after=str(max(1, round(seconds))))
