"""The tasks that check an artifact in every way to run it, with workers that answer as told."""

from operator import itemgetter
from pathlib import Path

import pytest

from pipcook_deploy.errors import VerificationError
from pipcook_deploy.schedule import Listener, Task, run_tasks
from pipcook_deploy.verification import Check, variants_of, verifications

ARTIFACT = {"path": "/made", "precision": "float32"}
FORMAT = "tfjs_graph"  # has several variants in any environment


class FakeWorkers:
    """Says of one variant that an answer is wrong."""

    def __init__(self, wrong=None):
        self.wrong, self.asked = wrong, []

    def call(self, function, arguments, *, heavy):
        self.asked.append((arguments["variant"], arguments["artifact"]))
        if arguments["variant"] != self.wrong:
            return {"samples": 3, "outputs": []}
        row = {"name": "y", "worst_sample": 2, "reason": "far off", "passed": False}
        return {"samples": 3, "outputs": [row]}


@pytest.fixture
def check():
    return Check("tfjs", FORMAT, Path("inputs"), Path("outputs"), "do not serve it")


def _run(tasks):
    return run_tasks(tasks, jobs=1, listener=Listener())


def test_what_a_task_made_is_checked_in_every_variant(check):
    workers = FakeWorkers()
    tasks = verifications(check, itemgetter("make"), workers, ("make",))
    outcome = _run([Task("make", lambda _: ARTIFACT), *tasks])
    numbers = variants_of(FORMAT)
    assert len(numbers) > 1
    assert workers.asked == [(number, ARTIFACT) for number in numbers]
    entries = [outcome.results[task.name] for task in tasks]
    assert len({entry.runtime for entry in entries}) == len(numbers)
    assert [task.name for task in tasks] == [f"verify tfjs ({e.runtime})" for e in entries]


def test_nothing_is_checked_that_was_not_made(check):
    def fail(_):
        raise VerificationError("cannot be made")

    workers = FakeWorkers()
    tasks = verifications(check, itemgetter("make"), workers, ("make",))
    outcome = _run([Task("make", fail), *tasks])
    assert not workers.asked
    assert list(outcome.errors) == ["make"]


def test_a_wrong_answer_fails_its_own_variant_alone(check):
    tasks = verifications(check, lambda _: ARTIFACT, FakeWorkers(wrong=1))
    outcome = _run(tasks)
    (error,) = outcome.errors.values()
    assert list(outcome.errors) == [tasks[1].name]
    assert "output 'y' of sample 2" in error.message and error.hint == "do not serve it"
    assert list(outcome.results) == [task.name for task in tasks if task is not tasks[1]]
