"""Tiny requests that arrive together, computed together in the event loop: no waiting, no threads.

Each computation gives up the interpreter lock and has to win it back from the threads that bring the next requests:
that costs more than computing a tiny model, and is paid once for all.
"""

import asyncio
from time import perf_counter

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.models.batches import joined, kind_of, rows_of, split_rows
from pipcook_deploy.server.observe.metrics import ModelMetrics

Waiting = list[tuple[Tensors, "asyncio.Future[Tensors]"]]


class Gatherer:
    """Computes what has arrived by the end of one turn of the loop, in batches of up to `most` samples."""

    def __init__(self, engine: Engine, most: int, metrics: ModelMetrics) -> None:
        self._engine = engine
        self._most = most
        self._metrics = metrics
        self._waiting: Waiting = []

    def run(self, inputs: Tensors) -> "asyncio.Future[Tensors]":
        """What the engine will answer. Raises `InferenceError` when awaited."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Tensors] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._compute)
        self._waiting.append((inputs, future))
        return future

    def _compute(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            self._alone(*waiting[0])
            return
        groups: dict[object, Waiting] = {}
        for each in waiting:
            groups.setdefault(kind_of(each[0]), []).append(each)
        for group in groups.values():
            self._in_batches(group)

    def _in_batches(self, group: Waiting) -> None:
        batch: Waiting = []
        rows: list[int] = []
        for each in group:
            size = rows_of(each[0])
            if not size or sum(rows) + size > self._most:
                self._together(batch, rows)
                batch, rows = [], []
            batch.append(each)
            rows.append(size)
        self._together(batch, rows)

    def _together(self, batch: Waiting, rows: list[int]) -> None:
        parts = self._parts(batch, rows) if len(batch) > 1 and all(rows) else None
        if parts is None:
            for each in batch:
                self._alone(*each)
            return
        for (_, future), part in zip(batch, parts, strict=True):
            if not future.done():
                future.set_result(part)

    def _parts(self, batch: Waiting, rows: list[int]) -> list[Tensors] | None:
        """Each one's answer; None if they have to be asked for one by one."""
        start = perf_counter()
        try:
            outputs = self._engine.run(joined([inputs for inputs, _ in batch]))
        except Exception:  # noqa: BLE001 - of a bad request, or no memory: each is asked alone, and gets its own
            return None
        taken = perf_counter() - start
        self._metrics.batches.observe(sum(rows))
        for _ in batch:
            self._metrics.stage("compute", taken)
        return split_rows(outputs, rows)

    def _alone(self, inputs: Tensors, future: "asyncio.Future[Tensors]") -> None:
        start = perf_counter()
        try:
            outputs = self._engine.run(inputs)
        except Exception as error:  # noqa: BLE001 - raised again where the request waits
            if not future.done():
                future.set_exception(error)
            return
        elements = sum([value.size for value in inputs.values()])
        self._metrics.inline(elements, perf_counter() - start)
        if not future.done():
            future.set_result(outputs)
