"""What a worker does with one job: call a function, leave its answer in a file."""

import errno
import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from pipcook_deploy.errors import DeployError, OutputError

DISK_FULL = 71  # exit code of a child that found no room even for its answer


def run(request: dict[str, Any]) -> int:
    """Call `request["call"]` ("module:function") with `request["args"]`; the result must be JSON.

    Returns the exit code of the child.
    """
    try:
        return _run(request)
    except OSError as error:
        if is_disk(error):
            return DISK_FULL
        raise


def _run(request: dict[str, Any]) -> int:
    result = Path(request["result"])
    try:
        module, _, name = request["call"].partition(":")
        value = getattr(importlib.import_module(module), name)(**request["args"])
        answer: dict[str, Any] = {"value": value}
    except DeployError as error:
        answer = {"error": describe(error)}
    except OSError as error:
        traceback.print_exc()
        answer = {"error": describe(_disk(error))} if is_disk(error) else {"bug": _bug(error)}
    except Exception as error:  # noqa: BLE001 - reported to the parent, which decides what it means
        traceback.print_exc()
        answer = {"bug": _bug(error)}
    result.write_text(json.dumps(answer))
    return 0


def describe(error: DeployError) -> dict[str, Any]:
    """A `DeployError` as data, so that the parent can raise the same one."""
    kind = type(error)
    return {
        "module": kind.__module__,
        "class": kind.__qualname__,
        "message": error.message,
        "hint": error.hint,
    }


def revive(data: dict[str, Any]) -> DeployError:
    """The inverse of `describe`; never anything but a `DeployError`."""
    kind = getattr(importlib.import_module(data["module"]), data["class"], DeployError)
    error: DeployError = DeployError.__new__(kind if issubclass(kind, DeployError) else DeployError)
    DeployError.__init__(error, data["message"], data["hint"])
    return error


def is_disk(error: OSError) -> bool:
    """Whether the disk is full or read-only, which is nobody's bug."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def _disk(error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {error.filename or 'the result'}: {error.strerror}",
        "free some space or choose another --out",
    )


def _bug(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
