"""The first process of a container: what it passes on, what it buries, what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PID1 = [sys.executable, "-m", "pipcook_deploy.container.pid1"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
# The kernel hands orphans to it, as it does to process 1.
SUBREAPER = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
    "os.execv(sys.argv[1], sys.argv[1:])"
)
SAYS_SIGNALS = """
import signal, sys, time
def said(number, frame):
    print(signal.Signals(number).name, flush=True)
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), said)
print("ready", flush=True)
sys.stdin.read()
sys.exit(5)
"""
ORPHAN = """
import os, sys, time
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        os._exit(3)
    os._exit(0)
os.wait()
time.sleep(60)
"""


@contextmanager
def started(*command):
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(*command):
    return subprocess.run([*PID1, *command], capture_output=True, text=True, timeout=20)


def wait_until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def status(pid):
    rows = (line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, value in rows}


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_its_exit_code_is_the_commands(code):
    assert ended(sys.executable, "-c", f"raise SystemExit({code})").returncode == code


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_command_that_a_signal_ended_is_told_as_shells_do(name):
    code = f"import os, signal; os.kill(os.getpid(), signal.{name})"
    number = getattr(signal, name)
    assert ended(sys.executable, "-c", code).returncode == 128 + number


def test_arguments_environment_and_streams_are_the_commands():
    code = "import os, sys; print(sys.argv[1:], os.environ['ODD'], sys.stdin.read())"
    done = subprocess.run(
        [*PID1, sys.executable, "-c", code, "a b", "", "$x"],
        env=os.environ | {"ODD": "1 2"}, input="in", capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "['a b', '', '$x'] 1 2 in\n"


def test_without_a_command_it_is_used_wrongly():
    done = ended()
    assert (done.returncode, done.stderr) == (2, "error: no command\n")


def test_a_command_that_is_not_there_is_said_so(tmp_path):
    done = ended("no-such-program-here", "x")
    assert done.returncode == 127
    assert "no-such-program-here cannot be run: No such file" in done.stderr
    (tmp_path / "text").write_text("hello")
    assert ended(str(tmp_path / "text")).returncode == 127


def test_signals_are_passed_on_and_it_waits_for_the_end():
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    with started(*PID1, sys.executable, "-c", SAYS_SIGNALS, *names) as process:
        assert process.stdout.readline() == "ready\n"
        for name in names:
            process.send_signal(getattr(signal, name))
            assert process.stdout.readline() == f"{name}\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=10) == 5


def test_a_signal_that_the_command_does_not_expect_ends_both():
    with started(*PID1, sys.executable, "-c", SAYS_SIGNALS) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 128 + signal.SIGTERM


@LINUX
def test_the_command_begins_with_no_signal_ignored_or_blocked():
    # Python itself ignores two when it starts: a program that changes nothing tells.
    done = ended("cat", "/proc/self/status")
    masks = dict(line.split(":\t") for line in done.stdout.splitlines() if line[:3] == "Sig")
    assert int(masks["SigBlk"], 16) == 0
    ignored = [s.name for s in signal.Signals if int(masks["SigIgn"], 16) >> (s - 1) & 1]
    assert ignored == []


@LINUX
def test_a_pipe_that_no_one_reads_ends_the_command():
    done = ended("sh", "-c", "(yes; echo $? >&2) | head -1")
    assert (done.stdout, done.stderr) == ("y\n", f"{128 + signal.SIGPIPE}\n")


@LINUX
def test_orphans_are_buried_while_the_command_runs():
    with started(sys.executable, "-c", SUBREAPER, *PID1, sys.executable, "-c", ORPHAN) as process:
        orphan = int(process.stdout.readline())
        wait_until(lambda: status(orphan)["PPid"] == str(process.pid))
        process.stdin.write("\n")
        process.stdin.flush()
        wait_until(lambda: not Path(f"/proc/{orphan}").exists())
        assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM


@LINUX
def test_many_orphans_at_once_are_all_buried():
    code = (
        "import os, time\n"
        "for _ in range(40):\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(5):\n"
        "            if os.fork() == 0:\n"
        "                os._exit(0)\n"
        "        os._exit(0)\n"
        "for _ in range(40):\n"
        "    os.wait()\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with started(sys.executable, "-c", SUBREAPER, *PID1, sys.executable, "-c", code) as process:
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == 1)
        process.terminate()
        process.wait(timeout=10)


@LINUX
def test_as_process_1_of_a_namespace_it_hears_signals_and_takes_the_rest_along():
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a namespace of processes cannot be made here")
    code = "import os, subprocess; subprocess.Popen(['sleep', '60']); print(os.getppid(), flush=True)\n"
    with started(*unshare, *PID1, sys.executable, "-c", code + SAYS_SIGNALS, "SIGTERM") as process:
        assert process.stdout.readline() == "1\n"
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        process.stdin.close()
        assert process.wait(timeout=10) == 5
