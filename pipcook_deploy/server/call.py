"""One request as the models see it: how long it may wait, and whether anyone still does."""

from collections.abc import Callable
from time import monotonic

from pipcook_deploy.server.errors import HttpError


class Call:
    """Passed along with the tensors of a request, whatever protocol it came by.

    `deadline` is a time of `time.monotonic`. `gone` turns True when the client has left: what has not been
    computed by then never is. `watch` begins to look out for that; it is called only where a request waits.
    """

    __slots__ = ("admitted", "deadline", "gone", "request_id", "watch")

    def __init__(
        self,
        deadline: float,
        request_id: str = "",
        watch: Callable[["Call"], Callable[[], object]] | None = None,
    ) -> None:
        self.deadline = deadline
        self.request_id = request_id
        self.gone = False
        self.admitted = False  # by the model's lane: it has a place in the queue already
        self.watch = watch

    def shorten(self, seconds: float) -> None:
        """Expire in `seconds` from now at the latest."""
        self.deadline = min(self.deadline, monotonic() + seconds)

    @property
    def expired(self) -> bool:
        """Whether its deadline has passed."""
        return monotonic() > self.deadline


class ExpiredError(HttpError):
    """The deadline passed before the model was asked: nothing was computed."""

    def __init__(self) -> None:
        super().__init__(503, "the request's deadline passed before its turn came")


class GoneError(Exception):
    """The client has left; no one reads an answer."""
