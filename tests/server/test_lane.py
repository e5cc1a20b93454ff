"""Queues, batches, deadlines and refusals, with engines that a test holds in its hand."""

import asyncio
import threading

import numpy as np
import pytest

from pipcook_deploy.server.call import Call, ExpiredError, GoneError
from pipcook_deploy.server.errors import HttpError, InferenceError, OverloadedError
from pipcook_deploy.server.models.lane import Lane, Plan
from pipcook_deploy.server.observe.metrics import ModelMetrics
from pipcook_deploy.server.settings import Settings


class Held:
    """Doubles; computes only when let, and remembers what it was given at once."""

    name, platform, threads, concurrent = "held", "test_test", 1, True

    def __init__(self):
        self.let = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.seen = []

    def run(self, inputs):
        self.seen.append(inputs["x"].ravel().tolist())
        self.begun.release()
        assert self.let.acquire(timeout=10)
        if np.isnan(inputs["x"]).any():
            raise InferenceError("no number")
        return {"y": inputs["x"] * 2}


def lane(plan=None, **settings):
    engine = Held()
    return engine, Lane(engine, plan or Plan(), Settings(**settings), ModelMetrics())


def rows(*values):
    return {"x": np.array(values, "float32").reshape(-1, 1)}


async def begun(engine):
    """The engine has taken something up."""
    assert await asyncio.to_thread(engine.begun.acquire, timeout=10)


def started(lane, *values, call=None):
    return asyncio.ensure_future(lane.run(rows(*values), call or Call(60)))


def test_a_tiny_request_runs_in_the_callers_thread_and_a_large_one_does_not():
    async def check():
        engine, way = lane(Plan(inline_elements=2))
        threads = []
        engine.run = lambda inputs: threads.append(threading.current_thread()) or {}
        await way.run(rows(1, 2), Call(60))
        await way.run(rows(1, 2, 3), Call(60))
        assert threads[0] is threading.main_thread() and threads[1] is not threading.main_thread()
        way.close()

    asyncio.run(check())


def test_what_waits_is_computed_together_and_everyone_gets_his_own():
    async def check():
        engine, way = lane(Plan(max_batch=4), batch_wait=0.0)
        first = started(way, 0)
        await begun(engine)
        others = [started(way, 1), started(way, 2, 3), started(way, 4, 5)]
        await asyncio.sleep(0)
        for _ in range(4):
            engine.let.release()
        answers = [(await each)["y"].ravel().tolist() for each in (first, *others)]
        assert answers == [[0], [2], [4, 6], [8, 10]]
        assert engine.seen == [[0], [1, 2, 3], [4, 5]]  # five would be more than max_batch
        way.close()

    asyncio.run(check())


def test_a_bad_request_spoils_no_others_of_its_batch():
    async def check():
        engine, way = lane(Plan(max_batch=4), batch_wait=0.0)
        first = started(way, 0)
        await begun(engine)
        bad, good = started(way, np.nan), started(way, 7)
        await asyncio.sleep(0)
        for _ in range(4):
            engine.let.release()
        await first
        with pytest.raises(InferenceError, match="no number"):
            await bad
        assert (await good)["y"].ravel().tolist() == [14]
        way.close()

    asyncio.run(check())


def test_other_shapes_are_not_joined():
    async def check():
        engine, way = lane(Plan(max_batch=4), batch_wait=0.0)
        first = started(way, 0)
        await begun(engine)
        wide = asyncio.ensure_future(way.run({"x": np.ones((1, 2), "float32")}, Call(60)))
        narrow = started(way, 3)
        await asyncio.sleep(0)
        for _ in range(3):
            engine.let.release()
        await asyncio.gather(first, wide, narrow)
        assert engine.seen == [[0], [1, 1], [3]]
        way.close()

    asyncio.run(check())


def test_a_full_queue_refuses_and_says_when_to_come_again():
    async def check():
        engine, way = lane(max_queue=2)
        waiting = [started(way, 1), started(way, 2)]
        await begun(engine)
        with pytest.raises(OverloadedError) as refused:
            await way.run(rows(3), Call(60))
        assert refused.value.status == 503 and int(refused.value.headers["retry_after"]) >= 1
        for _ in range(2):
            engine.let.release()
        await asyncio.gather(*waiting)
        assert way.pending == 0 and way._metrics.refused == 1
        engine.let.release()
        assert (await way.run(rows(4), Call(60)))["y"].item() == 8
        way.close()

    asyncio.run(check())


def test_a_wait_that_would_be_too_long_is_refused_before_it_begins():
    async def check():
        engine, way = lane(Plan(seconds=1.0), queue_seconds=1.5)
        first, second = started(way, 1), started(way, 2)
        await begun(engine)
        with pytest.raises(OverloadedError):
            await way.run(rows(3), Call(60))
        for _ in range(2):
            engine.let.release()
        await asyncio.gather(first, second)
        way.close()

    asyncio.run(check())


def test_expired_and_left_requests_are_not_computed():
    async def check():
        engine, way = lane()
        first = started(way, 1)
        await begun(engine)
        late, left, good = Call(0.0), Call(60), Call(60)
        waiting = [started(way, n, call=c) for n, c in ((2, late), (3, left), (4, good))]
        await asyncio.sleep(0.001)
        left.gone = True
        for _ in range(2):
            engine.let.release()
        await first
        with pytest.raises(ExpiredError):
            await waiting[0]
        with pytest.raises(GoneError):
            await waiting[1]
        assert (await waiting[2])["y"].item() == 8
        assert engine.seen == [[1], [4]] and way._metrics.expired == 2 and way.pending == 0
        way.close()

    asyncio.run(check())


def test_streams_compute_at_the_same_time():
    async def check():
        engine, way = lane(Plan(streams=2))
        both = [started(way, 1), started(way, 2)]
        await begun(engine)
        await begun(engine)  # neither has been let to end
        for _ in range(2):
            engine.let.release()
        await asyncio.gather(*both)
        way.close()

    asyncio.run(check())


def test_closing_computes_what_waits_and_a_later_request_opens_it_again():
    async def check():
        engine, way = lane()
        for _ in range(3):
            engine.let.release()
        assert (await way.run(rows(1), Call(60)))["y"].item() == 2
        way.close()
        assert (await way.run(rows(2), Call(60)))["y"].item() == 4
        way.close()

    asyncio.run(check())


class Counted:
    """Doubles; remembers how many samples it was given at once."""

    name, platform, threads, concurrent = "counted", "test_test", 1, True

    def __init__(self):
        self.seen = []

    def run(self, inputs):
        self.seen.append(len(inputs["x"]))
        if np.isnan(inputs["x"]).any():
            raise InferenceError("no number")
        return {"y": inputs["x"] * 2}


def gathered(*requests):
    """What the requests get that arrive in one turn of the loop, and the batches that were made of them."""

    async def answers():
        engine, metrics = Counted(), ModelMetrics()
        way = Lane(engine, Plan(inline_elements=100, max_batch=4), Settings(), metrics)
        tasks = [asyncio.ensure_future(way.run(inputs, Call(60))) for inputs in requests]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(metrics.stages["compute"].counts) == sum(
            not isinstance(each, Exception) for each in found
        )
        return found, engine.seen

    return asyncio.run(answers())


def test_tiny_requests_of_one_turn_are_computed_together():
    answers, seen = gathered(rows(1), rows(2, 3), rows(4), rows(5))
    assert [each["y"].ravel().tolist() for each in answers] == [[2], [4, 6], [8], [10]]
    assert seen == [4, 1]


def test_tiny_requests_of_other_shapes_are_computed_apart():
    answers, seen = gathered(rows(1), {"x": np.ones((1, 2), "float32")}, rows(2))
    assert [each["y"].shape for each in answers] == [(1, 1), (1, 2), (1, 1)] and seen == [2, 1]


def test_a_bad_tiny_request_spoils_no_others_of_its_turn():
    answers, _ = gathered(rows(1), rows(np.nan), rows(3))
    assert isinstance(answers[1], InferenceError)
    assert [answers[0]["y"].item(), answers[2]["y"].item()] == [2, 6]


def test_a_tiny_request_larger_than_a_batch_is_answered_whole():
    answers, seen = gathered(rows(*range(6)), rows(7))
    assert answers[0]["y"].ravel().tolist() == [0, 2, 4, 6, 8, 10] and seen == [6, 1]


def test_an_error_that_no_one_expects_leaves_no_request_waiting():
    class Broken(Counted):
        def run(self, inputs):
            raise MemoryError

    async def check():
        for plan in (Plan(max_batch=4), Plan(max_batch=4, inline_elements=100)):
            way = Lane(Broken(), plan, Settings(), ModelMetrics())
            tasks = [asyncio.ensure_future(way.run(rows(n), Call(60))) for n in range(3)]
            found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
            assert [type(each) for each in found] == [MemoryError] * 3
            way.close()

    asyncio.run(check())


def test_joining_that_fails_leaves_no_request_waiting(monkeypatch):
    def joined(requests):
        raise MemoryError

    monkeypatch.setattr("pipcook_deploy.server.models.lane.joined", joined)

    async def check():
        engine, way = lane(Plan(max_batch=4), batch_wait=0.0)
        first = started(way, 0)
        await begun(engine)
        others = [started(way, 1), started(way, 2)]
        await asyncio.sleep(0)
        for _ in range(3):
            engine.let.release()
        await first
        found = await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 10)
        assert [type(each) for each in found] == [MemoryError] * 2
        way.close()

    asyncio.run(check())


def test_a_request_of_very_many_samples_is_refused():
    async def check():
        _, way = lane(max_rows=3)
        with pytest.raises(HttpError, match="at most 3"):
            await way.run(rows(1, 2, 3, 4), Call(60))
        assert way.pending == 0

    asyncio.run(check())
