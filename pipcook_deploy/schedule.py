"""Runs tasks that depend on each other, several at once."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pipcook_deploy.errors import DeployError


@dataclass(frozen=True)
class Task:
    """A unit of work: `run` gets the results of the tasks named in `after`, by name."""

    name: str
    run: Callable[[Mapping[str, Any]], Any]
    after: tuple[str, ...] = ()


class Listener:
    """Who watches the tasks. This one does nothing; a progress display overrides what it shows."""

    def chosen(self, chains: list[str]) -> None:
        """The chains of converters that a stage will run, one line each."""

    def noted(self, text: str) -> None:
        """Something that the user should know of the run."""

    def planned(self, names: list[str]) -> None:
        """Called once, before anything starts."""

    def started(self, name: str) -> None:
        """A task begins."""

    def finished(self, name: str, seconds: float) -> None:
        """A task ended well."""

    def advanced(self, name: str, text: str, done: int, total: int | None) -> None:
        """A long task got on: what it did last, and how many of its steps are done, of how many if known."""

    def failed(self, name: str, error: DeployError) -> None:
        """A task ended with an error."""

    def skipped(self, name: str) -> None:
        """A task was not run because one that it needs failed."""


@dataclass(frozen=True)
class Outcome:
    """What came of the tasks: results by name, errors by name; a skipped task is in neither."""

    results: dict[str, Any]
    errors: dict[str, DeployError]


def run_tasks(tasks: list[Task], *, jobs: int, listener: Listener) -> Outcome:
    """Run every task whose needs succeeded, at most `jobs` at once, in the order given.

    A `DeployError` ends its task and those that need it; any other exception ends everything.
    """
    listener.planned([task.name for task in tasks])
    outcome = Outcome({}, {})
    pending = list(tasks)
    running: dict[Future[tuple[Any, float]], Task] = {}
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        while pending or running:
            pending = _drop_skipped(pending, outcome, running, listener)
            for task in [task for task in pending if _ready(task, outcome)][: jobs - len(running)]:
                pending.remove(task)
                listener.started(task.name)
                running[pool.submit(_timed, task, outcome.results)] = task
            if not running:
                continue
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                _settle(future, running.pop(future), outcome, listener)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    # In the order of the tasks, whoever ended first: the first error decides the exit code.
    errors = {task.name: outcome.errors[task.name] for task in tasks if task.name in outcome.errors}
    return Outcome(outcome.results, errors)


def watched_step(name: str, listener: Listener, run: Callable[[], Any]) -> Any:
    """Run something as a task of its own, at once; its error is raised."""
    listener.planned([name])
    listener.started(name)
    start = perf_counter()
    try:
        value = run()
    except DeployError as error:
        listener.failed(name, error)
        raise
    listener.finished(name, perf_counter() - start)
    return value


def _timed(task: Task, results: Mapping[str, Any]) -> tuple[Any, float]:
    start = perf_counter()
    return task.run(results), perf_counter() - start


def _ready(task: Task, outcome: Outcome) -> bool:
    return all(name in outcome.results for name in task.after)


def _drop_skipped(
    pending: list[Task],
    outcome: Outcome,
    running: dict[Future[tuple[Any, float]], Task],
    listener: Listener,
) -> list[Task]:
    alive = set(outcome.results) | {task.name for task in running.values()}
    kept: list[Task] = []
    for task in pending:  # in order, and a task only needs earlier ones
        if all(name in alive for name in task.after):
            alive.add(task.name)
            kept.append(task)
        else:
            listener.skipped(task.name)
    return kept


def _settle(
    future: Future[tuple[Any, float]], task: Task, outcome: Outcome, listener: Listener
) -> None:
    try:
        value, seconds = future.result()
    except DeployError as error:
        outcome.errors[task.name] = error
        listener.failed(task.name, error)
        return
    outcome.results[task.name] = value
    listener.finished(task.name, seconds)
