"""`python -m pipcook_deploy.container.pid1 COMMAND...`: the first process of a container.

The kernel gives process 1 no default for signals and hands it every orphan. This one starts the command, passes
signals on to it, buries what ends, and ends as the command did. When it ends, the kernel ends what is left.
"""

import os
import signal
import sys
from collections.abc import Sequence

PASSED_ON = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
# By this process alone; Python has ignored the first two since it started.
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTIN, signal.SIGTTOU)
NOT_FOUND = 127  # as shells have it


def main(command: Sequence[str]) -> int:
    """Run `command`; its exit code, or 128 + N if signal N ended it."""
    if not command:
        sys.stderr.write("error: no command\n")
        return 2
    # Blocked, they wait for `sigwait`: none can come between looking and waiting.
    watched = PASSED_ON | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        child = os.posix_spawnp(
            command[0], list(command), os.environ, setsigmask=(), setsigdef=(*PASSED_ON, *IGNORED)
        )
    except OSError as error:
        sys.stderr.write(f"error: {command[0]} cannot be run: {error.strerror}\n")
        return NOT_FOUND
    while True:
        came = signal.sigwait(watched)
        if came != signal.SIGCHLD:
            os.kill(child, came)
            continue
        status = _bury(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _bury(child: int) -> int | None:
    """Take note of all that have ended; the status of `child` if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == child:
            return status
        if pid == 0:
            return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
