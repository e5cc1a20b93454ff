"""What engines say when something fails, and what it means to who asked for the image."""

import errno
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipcook_deploy.errors import ImageError, OutputError

MOST_LINES = 20  # of a builder's output
MOST_LOG = 2000  # characters of a container's log
FULL = re.compile("no space left on device", re.IGNORECASE)
TAKEN = re.compile("port is already allocated|address already in use", re.IGNORECASE)
REASON = re.compile("error: ", re.IGNORECASE)


def failed(reason: str, tail: Sequence[str], make_room: str = "docker system prune") -> ImageError:
    """The error of a build; a full disk is told apart."""
    text = "\n".join(tail[-MOST_LINES:])
    if FULL.search(f"{reason}\n{text}"):
        return ImageError("the engine has no space left for the image", f"make some: {make_room}")
    return ImageError(f"the image cannot be built: {reason.strip()}", text or None)


def reason_in(lines: Sequence[str], otherwise: str) -> str:
    """The line in which a program says why it failed: the last one that begins with "Error:"."""
    found = (REASON.sub("", line, 1) for line in reversed(lines) if REASON.match(line))
    return next(found, otherwise).strip()


@contextmanager
def passing_through() -> Iterator[None]:
    """Images pass through this machine's folder for temporary files: raises `OutputError` if that is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"{tempfile.gettempdir()}: has no space for the image",
            "free some space there, or set TMPDIR",
        ) from error


def taken(reason: str) -> ImageError:
    """The error of a container whose port of this machine is another's."""
    return ImageError(
        f"a port for the container is taken: {reason}",
        "choose another, or any: --set docker.boot_port=0",
    )


def has_ended(name: str, log: str) -> ImageError:
    """The error of a container that has no address any more."""
    return ImageError(f"the container {name} has ended:\n{log[-MOST_LOG:]}")
