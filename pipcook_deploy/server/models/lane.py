"""How requests get to an engine: at once, or through a bounded queue and threads, alone or in batches.

A tiny model is run in the event loop's thread: handing it to another would cost more than running it.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.call import Call, ExpiredError, GoneError
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.errors import HttpError, OverloadedError
from pipcook_deploy.server.models.batches import Batch, Item, joined, split_rows
from pipcook_deploy.server.models.gather import Gatherer
from pipcook_deploy.server.observe.metrics import ModelMetrics
from pipcook_deploy.server.settings import Settings

SMOOTHING = 0.1  # of the moving average of computing times


@dataclass(frozen=True)
class Plan:
    """How one model is run best on this machine, found by measuring it.

    Requests of up to `inline_elements` input elements run in the event loop; 0: none. `seconds` is what one
    sample takes. `max_batch` above 1: so many samples are computed together, in the loop and out of it.
    """

    seconds: float = 0.0
    inline_elements: int = 0
    streams: int = 1
    max_batch: int = 1


class Lane:
    """The way to one engine. All methods are the event loop's; the threads are the lane's own."""

    def __init__(
        self, engine: Engine, plan: Plan, settings: Settings, metrics: ModelMetrics
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.pending = 0  # requests that were let in and have not ended
        self._settings = settings
        self._metrics = metrics
        self._seconds = plan.seconds  # moving average of one computation
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._crowded = False
        self._gatherer = Gatherer(engine, plan.max_batch, metrics) if plan.max_batch > 1 else None

    @property
    def depth(self) -> int:
        """Requests that wait for the engine."""
        return len(self._waiting)

    @contextmanager
    def admitted(self, call: Call) -> Iterator[None]:
        """Count a request from here on. Raises `OverloadedError` if too many are there already."""
        settings, pending = self._settings, self.pending
        wait = pending * self._seconds / (self.plan.streams * self.plan.max_batch)
        if pending >= settings.max_queue or wait > settings.queue_seconds:
            self._metrics.refused += 1
            raise OverloadedError(f"{pending} requests are waiting already; try again", wait)
        self.pending = pending + 1
        call.admitted = True
        try:
            yield
        finally:
            call.admitted = False
            self.pending -= 1

    async def run(self, inputs: Tensors, call: Call) -> Tensors:
        """What the engine answers.

        Raises `InferenceError`, `ExpiredError`, `GoneError`, and `OverloadedError` if the caller has not been
        `admitted` and there is no room.
        """
        count = elements(inputs)
        if self.plan.inline_elements >= count:
            if self._gatherer is not None and not call.alone:
                return await self._gatherer.run(inputs)
            start = perf_counter()
            outputs = self.engine.run(inputs)
            self._metrics.inline(count, perf_counter() - start)
            return outputs
        if call.admitted:
            return await self._queued(inputs, call)
        with self.admitted(call):
            return await self._queued(inputs, call)

    async def _queued(self, inputs: Tensors, call: Call) -> Tensors:
        self._check_rows(inputs)
        item = Item.of(inputs, call, asyncio.get_running_loop().create_future())
        stop_watching = call.watch()
        try:
            with self._changed:
                self._start_threads()
                self._waiting.append(item)
                self._changed.notify()
            outputs: Tensors = await item.future
        finally:
            if stop_watching:
                stop_watching()
        return outputs

    def _check_rows(self, inputs: Tensors) -> None:
        """A model's own tensors can be a thousand times as large as what it is given, for each sample."""
        for value in inputs.values():
            if value.ndim > 1 and len(value) > self._settings.max_rows:
                raise HttpError(
                    400, f"{len(value)} samples; one request has at most {self._settings.max_rows}"
                )

    def close(self, wait: bool = True) -> None:
        """End the threads once nothing waits. A request that comes later starts them again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads, self._threads = self._threads, []
        for thread in threads if wait else ():
            thread.join()

    def _start_threads(self) -> None:
        if self._threads:
            return
        self._closed = False
        loop = asyncio.get_running_loop()
        for number in range(self.plan.streams if self.engine.concurrent else 1):
            name = f"{self.engine.name}-{number}"
            thread = threading.Thread(target=self._work, args=(loop,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    # What follows runs in the lane's threads.

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = self._take()
            if batch:
                try:
                    results = self._compute(batch)
                except Exception as error:  # noqa: BLE001 - raised again where the requests wait
                    results = [error] * len(batch)
                loop.call_soon_threadsafe(_deliver, batch, results)

    def _take(self) -> Batch:
        """The next item, and what may be computed with it; called with the lock held."""
        batch = [self._waiting.popleft()]
        if self.plan.max_batch > 1:
            self._gather(batch)
            # More are worth waiting for only while they come faster than they are computed.
            self._crowded = len(batch) > 1 or bool(self._waiting)
        return batch

    def _gather(self, batch: Batch) -> None:
        most, rows = self.plan.max_batch, batch[0].rows
        end = batch[0].since + (self._settings.batch_wait if self._crowded else 0.0)
        while True:
            while self._waiting and self._waiting[0].fits(batch[0]):
                if rows + self._waiting[0].rows > most:
                    return
                batch.append(self._waiting.popleft())
                rows += batch[-1].rows
            left = end - perf_counter()
            if self._waiting or rows >= most or left <= 0 or self._closed:
                return
            self._changed.wait(left)

    def _compute(self, batch: Batch) -> list[Any]:
        """For each item its outputs, or the error that is its answer."""
        start = perf_counter()
        results: list[Any] = [self._unwanted(item, start) for item in batch]
        live = [item for item, result in zip(batch, results, strict=True) if result is None]
        if not live:
            return results
        answers = iter(self._answers(live))
        taken = perf_counter() - start
        self._seconds += (taken - self._seconds) * SMOOTHING
        for _ in live:
            self._metrics.stage("compute", taken)
        return [next(answers) if result is None else result for result in results]

    def _unwanted(self, item: Item, now: float) -> Exception | None:
        self._metrics.stage("queue", now - item.since)
        if not item.call.gone and not item.call.expired:
            return None
        self._metrics.expired += 1
        return GoneError() if item.call.gone else ExpiredError()

    def _answers(self, live: Batch) -> list[Any]:
        self._metrics.batches.observe(sum(item.rows or 1 for item in live))
        if len(live) > 1:
            outputs = self._run(joined([item.inputs for item in live]))
            if not isinstance(outputs, Exception):
                parts = split_rows(outputs, [item.rows for item in live])
                if parts is not None:
                    return list(parts)
        # One by one, so that a bad request spoils no other's answer.
        return [self._run(item.inputs) for item in live]

    def _run(self, inputs: Tensors) -> Any:
        try:
            return self.engine.run(inputs)
        except Exception as error:  # noqa: BLE001 - raised again where the request waits
            return error


def elements(tensors: Tensors) -> int:
    """Of all of them together."""
    if len(tensors) == 1:
        (value,) = tensors.values()
        return value.size  # type: ignore[no-any-return]
    return sum([value.size for value in tensors.values()])


def _deliver(batch: Batch, results: list[Any]) -> None:
    for item, result in zip(batch, results, strict=True):
        if item.future.done():
            continue
        if isinstance(result, Exception):
            item.future.set_exception(result)
        else:
            item.future.set_result(result)
