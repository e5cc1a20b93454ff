"""How foreign programs are run: a list of arguments, echoed, bounded in time, output kept for the error."""

import logging
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipcook_deploy.errors import ConversionError, DeployError, MissingDependencyError

logger = logging.getLogger(__name__)
TAIL = 20  # lines of output that an error quotes
GRACE = 3.0  # seconds to clean up in, before a program is killed
BLOCK = 1 << 16

# Makes the error of what happened and the end of the output; a class of errors is one.
Failure = Callable[[str, str | None], DeployError]


@dataclass(frozen=True)
class Ended:
    """How a program ended. `errors` is its stderr where that was kept apart."""

    code: int
    output: str
    errors: str = ""


def run(
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    failure: Failure = ConversionError,
    apart: bool = False,
) -> str:
    """Run a program to its end and return what it printed: stdout and stderr in order, or stdout alone if `apart`.

    `env` is added to the environment. Raises `failure` when the program ends with another code than 0 or
    takes longer than `timeout` seconds, in which case it is ended with all its children.
    """
    ended = outcome(arguments, cwd=cwd, env=env, timeout=timeout, failure=failure, apart=apart)
    if ended.code != 0:
        said = ended.errors if apart else ended.output
        raise failure(_message(_texts(arguments), ended.code), _tail(said.splitlines()))
    return ended.output


def outcome(
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    failure: Failure = ConversionError,
    apart: bool = False,
) -> Ended:
    """The same where another exit code than 0 is an answer: `failure` is raised only for what takes too long."""
    command = _texts(arguments)
    process = _started(command, cwd, env, subprocess.PIPE if apart else subprocess.STDOUT)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise failure(_too_long(command, timeout), None) from error
    finally:
        _end(process)
    return Ended(process.returncode, _decoded(output), _decoded(errors or b""))


def follow(
    arguments: Sequence[str | Path],
    each: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    failure: Failure = ConversionError,
) -> None:
    """Run a program to its end and call `each` with every line as it comes, of stdout and stderr. Raises as `run`."""
    command = _texts(arguments)
    process = _started(command, cwd, env, subprocess.STDOUT)
    assert process.stdout is not None
    tail: deque[str] = deque(maxlen=TAIL)
    until = None if timeout is None else time.monotonic() + timeout
    try:
        for line in _lines(process.stdout, until):
            tail.append(line)
            each(line)
        process.wait(_left(until))
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise failure(_too_long(command, timeout), _tail([*tail])) from error
    finally:
        _end(process)
    if process.returncode != 0:
        raise failure(_message(command, process.returncode), _tail([*tail]))


def _started(
    command: list[str], cwd: Path | None, env: Mapping[str, str] | None, stderr: int
) -> subprocess.Popen[bytes]:
    logger.info("$ %s", shlex.join(command))
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise MissingDependencyError(f"{command[0]} cannot be run: {error.strerror}") from error


def _lines(stream: IO[bytes], until: float | None) -> Iterator[str]:
    """Raises `TimeoutError` if there is more to come at the time `until`."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(_left(until)):
                raise TimeoutError
            block = os.read(stream.fileno(), BLOCK)
            if not block:
                break
            *whole, rest = (rest + block).split(b"\n")
            yield from (_decoded(line.removesuffix(b"\r")) for line in whole)
    if rest:
        yield _decoded(rest)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, with its children. Builders are given time to take away what they work in."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with suppress(ProcessLookupError):  # no one is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _texts(arguments: Sequence[str | Path]) -> list[str]:
    return [str(argument) for argument in arguments]


def _decoded(output: bytes) -> str:
    return output.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def _name(command: list[str]) -> str:
    return Path(command[0]).name


def _message(command: list[str], code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{_name(command)} {how}: {shlex.join(command)}"


def _too_long(command: list[str], timeout: float | None) -> str:
    return f"{_name(command)} was stopped after {timeout or 0:.0f} s"


def _tail(lines: Sequence[str]) -> str | None:
    return "\n".join("\n".join(lines).strip().splitlines()[-TAIL:]) or None
