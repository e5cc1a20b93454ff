"""One version of one model, ready to answer."""

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.call import Call
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.models.lane import Lane, Plan
from pipcook_deploy.server.models.predictor import Predictor, Score
from pipcook_deploy.server.observe.metrics import ModelMetrics
from pipcook_deploy.server.settings import Settings
from pipcook_deploy.spec import ModelSpec

if TYPE_CHECKING:
    from pipcook_deploy.server.app import Context


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
        self.predictor = Predictor(spec, settings)
        self.lane = Lane(engine, plan, settings, self.metrics)

    async def infer(self, inputs: Tensors, call: Call) -> Tensors:
        """The model's own tensors, no preprocessing; all inputs by the spec's names."""
        return await self.lane.run(inputs, call)

    async def scores(self, values: Sequence[object], context: "Context", call: Call) -> Any:
        """[len(values), classes] of the first output, for images, texts or numbers as people send them.

        Raises `PreprocessingError` if a value does not fit, and what `infer` raises.
        """
        import numpy as np

        with self.lane.admitted(call):
            start = perf_counter()
            batch = await context.compute(lambda: self.predictor.prepare(values))
            self.metrics.stage("prepare", perf_counter() - start)
            rows = [
                self.predictor.scores(await self.lane.run(part, call), count)
                for part, count in self.predictor.portions(batch)
            ]
        return np.concatenate(rows)

    async def classify(
        self, values: Sequence[object], top: int, context: "Context", call: Call
    ) -> list[list[Score]]:
        """For each value the `top` classes, best first."""
        return [self.predictor.best(row, top) for row in await self.scores(values, context, call)]
