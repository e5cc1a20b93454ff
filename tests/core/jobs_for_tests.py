"""Functions that the worker tests call in a child."""

import os
import signal
import subprocess
import sys
import tempfile
import time

from pipcook_deploy.errors import SourceError
from pipcook_deploy.run import run


def add(a, b):
    print("adding")
    return a + b


def pid():
    return os.getpid()


def refuse():
    raise SourceError("no model", "give one")


def break_down():
    print("about to break")
    raise ZeroDivisionError("by zero")


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def fill_disk():
    raise OSError(28, "No space left on device", "big.bin")


def sleep_with_child(note):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(note, "w") as stream:
        stream.write(f"{os.getpid()} {child.pid}")
    time.sleep(60)


def sleep_with_program(note):
    """The same through `run`, which gives its programs a session of their own."""
    script = "import os, sys, time; open(sys.argv[1], 'w').write(f'{os.getppid()} {os.getpid()}'); time.sleep(60)"
    run([sys.executable, "-c", script, note])


def leave_a_file():
    handle, path = tempfile.mkstemp()
    os.close(handle)
    return path


def fill_the_answer():
    return "x" * 5_000_000
