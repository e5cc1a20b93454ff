"""How foreign programs are run: a list of arguments, echoed, bounded in time, output kept for the error."""

import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipcook_deploy.errors import ConversionError, DeployError, MissingDependencyError

logger = logging.getLogger(__name__)
TAIL = 20  # lines of output that an error quotes


def run(
    arguments: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    failure: type[DeployError] = ConversionError,
) -> str:
    """Run a program to its end and return what it printed (stdout and stderr, in order).

    `env` is added to the environment. Raises `failure` when the program ends with another code than 0 or
    takes longer than `timeout` seconds, in which case it is killed with all its children.
    """
    command = [str(argument) for argument in arguments]
    logger.info("$ %s", shlex.join(command))
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise MissingDependencyError(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise failure(f"{_name(command)} was stopped after {timeout:.0f} s") from error
    finally:
        _kill(process)
    if process.returncode != 0:
        raise failure(_message(command, process.returncode), _tail(output))
    return output


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _name(command: list[str]) -> str:
    return Path(command[0]).name


def _message(command: list[str], code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{_name(command)} {how}: {shlex.join(command)}"


def _tail(output: str) -> str | None:
    return "\n".join(output.strip().splitlines()[-TAIL:]) or None
