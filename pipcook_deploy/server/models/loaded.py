"""One version of one model, ready to answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.call import Call, ExpiredError, GoneError
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.models.lane import Lane, Plan
from pipcook_deploy.server.models.predictor import Predictor, Score
from pipcook_deploy.server.observe.metrics import ModelMetrics
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.server.tensors.fast_json import PlainReader
from pipcook_deploy.spec import ModelSpec

if TYPE_CHECKING:
    from pipcook_deploy.server.app import Context
    from pipcook_deploy.server.protocols.oip_head import BinaryHead


class LoadedModel:
    """What handlers are given: they hold it until they have answered, whatever is swapped meanwhile.

    `chosen` says in words why this engine runs it, and how.
    """

    def __init__(
        self, spec: ModelSpec, engine: Engine, plan: Plan, settings: Settings, chosen: str = ""
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.version = spec.version
        self.engine = engine
        self.chosen = chosen
        self.metrics = ModelMetrics()
        self.reader = PlainReader(spec.inputs, settings.max_elements)
        self.heads: dict[bytes, BinaryHead] = {}
        self.all_outputs = {tensor.name: False for tensor in spec.outputs}  # none of them binary
        self.predictor = Predictor(spec, settings)
        self.lane = Lane(engine, plan, settings, self.metrics)

    async def infer(self, inputs: Tensors, call: Call) -> Tensors:
        """The model's own tensors, no preprocessing; all inputs by the spec's names."""
        return await self.lane.run(inputs, call)

    async def predict(
        self, values: Sequence[object], context: "Context", call: Call
    ) -> "Prediction":
        """The outputs for images, texts, numbers or rows as people send them (see `Predictor.prepare`).

        Raises `PreprocessingError` if a value does not fit, and what `infer` raises.
        """
        with self.lane.admitted(call):
            start = perf_counter()
            batch = await self._prepared(values, context, call)
            ready = perf_counter()
            self.metrics.stage("prepare", ready - start)
            parts = [
                (await self.lane.run(part, call), count)
                for part, count in self.predictor.portions(batch)
            ]
        return Prediction(parts, ready - start, perf_counter() - ready)

    async def _prepared(self, values: Sequence[object], context: "Context", call: Call) -> Tensors:
        def check() -> None:
            if call.gone:
                raise GoneError
            if call.expired:
                raise ExpiredError

        stop_watching = call.watch()
        try:
            return await context.compute(lambda: self.predictor.prepare(values, check))
        finally:
            if stop_watching:
                stop_watching()

    async def scores(self, values: Sequence[object], context: "Context", call: Call) -> Any:
        """[len(values), classes] of the first output. Raises what `predict` raises."""
        return self.scores_of(await self.predict(values, context, call))

    def scores_of(self, prediction: "Prediction") -> Any:
        """[samples, classes] of the first output; `UnsuitableModelError` if it is no scores."""
        import numpy as np

        return np.concatenate(
            [self.predictor.scores(outputs, count) for outputs, count in prediction.parts]
        )

    async def classify(
        self, values: Sequence[object], top: int, context: "Context", call: Call
    ) -> list[list[Score]]:
        """For each value the `top` classes, best first."""
        return [self.predictor.best(row, top) for row in await self.scores(values, context, call)]


@dataclass(frozen=True)
class Prediction:
    """What the engine answered: outputs, and how many of their first rows count. Seconds of both steps."""

    parts: list[tuple[Tensors, int]]
    preparing: float
    computing: float
