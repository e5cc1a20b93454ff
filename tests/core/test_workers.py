import os
import resource
import signal
import threading
import time
from contextlib import suppress

import pytest

from pipcook_deploy.errors import OutputError, SourceError
from pipcook_deploy.jobs.workers import RunEndedError, WorkerError, Workers

pytestmark = pytest.mark.alone

HERE = "tests.core.jobs_for_tests"


@pytest.fixture
def workers(tmp_path, monkeypatch):
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    monkeypatch.setenv("PYTHONPATH", root)
    with Workers(tmp_path) as started:
        yield started


def test_a_job_runs_in_another_process_and_answers(workers):
    assert workers.call(f"{HERE}:add", {"a": 1, "b": 2}, heavy=False) == 3
    assert workers.call(f"{HERE}:pid", {}, heavy=False) != os.getpid()


def test_a_refusal_comes_back_as_itself(workers):
    with pytest.raises(SourceError) as caught:
        workers.call(f"{HERE}:refuse", {}, heavy=False)
    assert (caught.value.message, caught.value.hint) == ("no model", "give one")


def test_a_bug_comes_back_with_what_was_printed(workers):
    with pytest.raises(WorkerError, match="ZeroDivisionError: by zero") as caught:
        workers.call(f"{HERE}:break_down", {}, heavy=False)
    assert "about to break" in caught.value.tail()
    assert "Traceback" in caught.value.tail()


def test_a_crash_costs_one_job_only(workers):
    with pytest.raises(WorkerError, match="SIGSEGV"):
        workers.call(f"{HERE}:crash", {}, heavy=False)
    assert workers.call(f"{HERE}:add", {"a": 1, "b": 1}, heavy=False) == 2


def test_a_full_disk_is_the_users_to_mend(workers):
    with pytest.raises(OutputError, match=r"big\.bin: No space left"):
        workers.call(f"{HERE}:fill_disk", {}, heavy=False)


def test_jobs_run_side_by_side(workers):
    answers = []
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(
                workers.call(f"{HERE}:add", {"a": n, "b": 0}, heavy=False)
            )
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(8))


@pytest.mark.parametrize("job", ["sleep_with_child", "sleep_with_program"])
def test_leaving_ends_the_job_and_what_it_started(job, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    note = tmp_path / "note"

    def call(workers):
        with suppress(RunEndedError):
            workers.call(f"{HERE}:{job}", {"note": str(note)}, heavy=False)

    with Workers(tmp_path) as workers:
        thread = threading.Thread(target=call, args=(workers,))
        thread.start()
        _wait(lambda: note.exists() and len(note.read_text().split()) == 2)
    thread.join(10)
    assert not thread.is_alive()
    for pid in map(int, note.read_text().split()):
        _wait(lambda pid=pid: not _running(pid))


def test_jobs_end_with_a_zygote_that_is_killed(workers, tmp_path):
    note = tmp_path / "note"
    ended = []

    def call():
        try:
            workers.call(f"{HERE}:sleep_with_child", {"note": str(note)}, heavy=False)
        except WorkerError as error:
            ended.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    _wait(lambda: note.exists() and len(note.read_text().split()) == 2)
    job, _ = map(int, note.read_text().split())
    with open(f"/proc/{job}/stat") as stat:
        os.kill(int(stat.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
    thread.join(10)
    assert ended == ["the worker process ended before the job did"]
    _wait(lambda: not _running(job))
    with suppress(ProcessLookupError):
        os.kill(int(note.read_text().split()[1]), signal.SIGKILL)


def test_leaving_does_not_wait_for_an_import(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("pipcook_deploy.jobs.workers.HEAVY", ("slow_to_import",))
    monkeypatch.setattr("pipcook_deploy.jobs.workers._require_tensorflow", lambda: None)
    start = time.monotonic()
    with Workers(tmp_path) as workers:
        workers.warm()
        time.sleep(0.3)
    assert time.monotonic() - start < 3


def test_what_keras_loads_for_nothing_is_not_loaded_but_can_be(tmp_path, monkeypatch):
    (tmp_path / "like_keras.py").write_text(
        "try:\n    import matplotlib\nexcept ImportError:\n    matplotlib = None\n"
        "def job():\n    import matplotlib as later\n    return [matplotlib, later.__name__]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("pipcook_deploy.jobs.workers.HEAVY", ("like_keras",))
    with Workers(tmp_path) as workers:
        assert workers.call("like_keras:job", {}, heavy=True) == [None, "matplotlib"]


def _running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_what_a_job_leaves_behind_is_in_the_scratch_folder(workers, tmp_path):
    left = workers.call(f"{HERE}:leave_a_file", {}, heavy=False)
    assert os.path.exists(left)
    assert left.startswith(f"{tmp_path}/")


def test_a_disk_too_full_for_the_answer_is_the_users_to_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    # A limit on the size of files stands in for a full disk: writing beyond it fails likewise.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, old[1]))
    try:
        with Workers(tmp_path) as workers, pytest.raises(OutputError, match="the disk is full"):
            workers.call(f"{HERE}:fill_the_answer", {}, heavy=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
