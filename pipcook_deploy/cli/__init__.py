"""The command line: parses, calls one function of the Python API, prints."""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code (see `pipcook_deploy.errors.EXIT_CODES`)."""
    import click

    from pipcook_deploy.cli import models, packaging, serving  # noqa: F401 - their commands
    from pipcook_deploy.cli.app import app
    from pipcook_deploy.cli.report import report_error
    from pipcook_deploy.errors import DeployError, OutputError

    _replace_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = app.main(args=arguments, prog_name="pipcook-deploy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt) as error:
        told = ("interrupted: nothing was left half-written", *getattr(error, "__notes__", ()))
        print("\n".join(told), file=sys.stderr)  # noqa: T201
        return 130
    except DeployError as error:
        report_error(error, as_json="--json" in arguments)
        return error.exit_code
    except OSError as error:
        if not _is_output(error):
            raise
        _say_if_possible(f"error: the output cannot be written: {error.strerror}")
        return OutputError.exit_code
    return result if isinstance(result, int) else 0


def _replace_closed_streams() -> None:
    """A program started with `>&-` has no such stream at all; what it prints is lost, not a bug."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115


def _is_output(error: OSError) -> bool:
    """Whether a standard stream failed: the pipe was closed or the disk is full; files have names."""
    return error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO)


def _say_if_possible(text: str) -> None:
    # Python would try to flush what is left at exit, and fail once more.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201
