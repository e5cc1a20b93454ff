"""One request as the models see it: how long it may wait, and whether anyone still does."""

from collections.abc import Callable
from time import perf_counter

from pipcook_deploy.server.errors import HttpError


class Call:
    """Passed along with the tensors of a request, whatever protocol it came by.

    `deadline` is a time of `time.perf_counter`. `gone` turns True when the client has left: what has not been
    computed by then never is. `admitted`: it has a place in the model's queue already.
    `alone`: no other request is being answered that could be computed with it.
    """

    __slots__ = ("_deadline", "admitted", "alone", "gone", "started")

    def __init__(self, seconds: float) -> None:
        self.started = perf_counter()
        self.gone = False
        self.admitted = False
        self.alone = False
        self._deadline = self.started + seconds

    @property
    def deadline(self) -> float:
        """When it is no longer worth computing."""
        return self._deadline

    def watch(self) -> Callable[[], object] | None:
        """Begin to look out for the client's leaving; what is returned ends that."""
        return None

    def shorten(self, seconds: float) -> None:
        """Expire in `seconds` from now at the latest."""
        self._deadline = min(self.deadline, perf_counter() + seconds)

    @property
    def expired(self) -> bool:
        """Whether its deadline has passed."""
        return perf_counter() > self.deadline


class ExpiredError(HttpError):
    """The deadline passed before the model was asked: nothing was computed."""

    def __init__(self) -> None:
        super().__init__(503, "the request's deadline passed before its turn came")


class GoneError(Exception):
    """The client has left; no one reads an answer."""
