"""Docker's Python SDK: what its errors mean."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipcook_deploy.errors import ImageError
from pipcook_deploy.images.failures import FULL, TAKEN, failed, passing_through, taken

SECONDS = 600.0  # between any two parts of what the engine says: large images take a while to store


def said(error: BaseException) -> str:
    """What an error of the SDK means, without its layers of wrapping."""
    explanation = getattr(error, "explanation", None)
    if explanation:
        return str(explanation)
    text = str(error)
    inner = re.search(
        r"(\[Errno \d+\] )?([A-Z][a-z ]+(?:refused|denied|directory|reset by peer|closed[^'\")]*))",
        text,
    )
    return inner[2] if inner else text.splitlines()[0] if text else type(error).__name__


@contextmanager
def talking(what: str) -> Iterator[None]:
    """Whatever the SDK raises becomes an `ImageError` that says what was asked of the engine.

    Raises `OutputError` if it is this machine that has no space left.
    """
    try:
        with passing_through():
            yield
    except failures() as error:
        reason = said(error)
        if FULL.search(reason):
            raise failed(reason, []) from error
        if TAKEN.search(reason):
            raise taken(reason) from error
        raise ImageError(
            f"Docker did not do {what}: {reason}", "see whether it runs: docker info"
        ) from error


def failures() -> tuple[type[BaseException], ...]:
    import docker
    import requests
    import urllib3

    return (
        docker.errors.DockerException,
        docker.credentials.errors.StoreError,  # a helper that the configuration names and that is not there
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        json.JSONDecodeError,
        OSError,
    )
