"""How foreign programs are run: what they say is had as it comes, and nothing of them outlives its time."""

import os
import signal
import sys
import threading
import time

import pytest

from pipcook_deploy.errors import ImageError, MissingDependencyError
from pipcook_deploy.run import follow, outcome, run

WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def python(text):
    return [sys.executable, "-c", text]


def is_gone(pid):
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_lines_come_before_the_end():
    came = []
    text = "import time; print('one', flush=True); time.sleep(1); print('two', end='')"
    follow(python(text), lambda line: came.append((line, time.monotonic())))
    (one, first), (two, second) = came
    assert (one, two) == ("one", "two")
    assert second - first > 0.5


def test_both_streams_are_followed_and_what_is_no_text_is_replaced():
    came = []
    text = r"import os; os.write(1, b'a\xff\r\n'); os.write(2, b'b\n')"
    follow(python(text), came.append)
    assert came == ["a�", "b"]


def test_a_program_that_fails_is_quoted_with_its_last_lines():
    text = "print('\\n'.join(map(str, range(100)))); raise SystemExit(3)"
    with pytest.raises(ImageError, match="ended with exit code 3") as failure:
        follow(python(text), lambda line: None, failure=ImageError)
    assert failure.value.hint == "\n".join(map(str, range(80, 100)))


def test_what_takes_too_long_is_ended_with_its_children():
    came = []
    with pytest.raises(ImageError, match="was stopped after 1 s"):
        follow(python(WITH_CHILD), came.append, timeout=1, failure=ImageError)
    assert is_gone(int(came[0]))


def test_an_interrupt_ends_it_with_its_children():
    came = []
    main = threading.main_thread().ident
    timer = threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        follow(python(WITH_CHILD), came.append)
    timer.join()
    assert is_gone(int(came[0]))


def test_what_a_listener_raises_ends_it():
    came = []

    def refuse(line):
        came.append(line)
        raise ValueError(line)

    with pytest.raises(ValueError, match=r"\d+"):
        follow(python(WITH_CHILD), refuse)
    assert is_gone(int(came[0]))


def test_a_program_is_given_time_to_clean_up(tmp_path):
    text = """
import signal, sys, time
def end(*_): open("cleaned", "w").close(); sys.exit(1)
signal.signal(signal.SIGTERM, end)
print(1, flush=True)
time.sleep(60)
"""
    with pytest.raises(ImageError):
        follow(python(text), lambda _: None, cwd=tmp_path, timeout=1, failure=ImageError)
    assert os.listdir(tmp_path) == ["cleaned"]


def test_an_exit_code_can_be_an_answer_and_the_streams_apart():
    ended = outcome(
        python("import sys; print(1); print(2, file=sys.stderr); sys.exit(4)"), apart=True
    )
    assert (ended.code, ended.output, ended.errors) == (4, "1\n", "2\n")


def test_what_is_said_beside_the_answer_is_no_part_of_it():
    assert run(python("import sys; print(1); print(2, file=sys.stderr)"), apart=True) == "1\n"
    with pytest.raises(ImageError) as failure:
        run(python("print(1); raise SystemExit('why')"), apart=True, failure=ImageError)
    assert failure.value.hint == "why"


def test_a_program_that_is_not_there_is_a_missing_dependency():
    with pytest.raises(MissingDependencyError, match="no-such-program cannot be run"):
        follow(["no-such-program"], lambda _: None)
