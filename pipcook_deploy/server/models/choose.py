"""Chooses how a model is run on this machine by trying what the settings leave open.

The rule: of the options that answer at least 10/11 of the requests a second that the best one answers, the one
that answers a single request soonest. A model that takes less than 0.3 ms runs on one thread, one request after
the other: handing work to threads would cost more.
"""

from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.errors import InferenceError
from pipcook_deploy.server.models.golden import check_golden
from pipcook_deploy.server.models.measure import (
    BATCH_GAINS,
    INLINE_SECONDS,
    BatchGain,
    alone,
    batch_gain,
    equal,
    together,
)
from pipcook_deploy.server.models.options import Option
from pipcook_deploy.server.models.samples import elements, samples
from pipcook_deploy.server.served import Candidate, ServedModel

MARGIN = 1.1
BUDGET = 4.0  # seconds; what has not been tried by then is not
ALONE, TOGETHER = 0.02, 0.03  # seconds for each measurement: they delay the first start
THOROUGH = 4  # times as long where engines are compared
BATCHES: dict[BatchGain, str] = {
    "pays": "batches pay",
    "little": "batches would gain little",
    "changes bits": "batches would change bits",
    "not tried": "batches were not tried",
    "impossible": "no batches",
}
LIGHT = 32_000_000  # bytes of a file whose engines are all kept until one is chosen


@dataclass(frozen=True)
class Choice:
    """How a model is run, and the figures that say why.

    `seconds` is what one sample takes alone, 0 if none could be tried; it has `elements` elements in all inputs.
    """

    option: Option
    seconds: float = 0.0
    elements: int = 0
    batch: BatchGain = "impossible"
    why: str = ""

    @property
    def tiny(self) -> bool:
        """Whether it is run in the event loop's own thread."""
        return 0 < self.seconds < INLINE_SECONDS

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Choice":
        """The inverse; raises `ValueError`, `TypeError` or `LookupError` for what `to_json` did not write."""
        if data["batch"] not in BATCH_GAINS:
            raise ValueError(data["batch"])
        seconds, elements = float(data["seconds"]), int(data["elements"])
        option = Option(**data["option"])
        return cls(option, seconds, elements, data["batch"], str(data["why"]))


@dataclass
class Trial:
    """What was measured of an option: seconds of one request alone, and requests a second; the best of each.

    `engine` is kept where memory allows.
    """

    option: Option
    engine: Engine | None
    inputs: Tensors
    seconds: float = float("inf")
    rate: float = 0.0

    @property
    def tiny(self) -> bool:
        """Whether it is run in the event loop's own thread."""
        return self.seconds < INLINE_SECONDS

    def measure(self, engine: Engine, times: float) -> None:
        """Measure once more."""
        self.seconds = min(self.seconds, alone(engine, self.inputs, ALONE * times))
        if self.tiny or self.option.streams == 1:
            self.rate = 1 / self.seconds
        else:
            streams = self.option.streams
            self.rate = max(self.rate, together(engine, self.inputs, streams, TOGETHER * times))

    def __str__(self) -> str:
        return f"{self.option}: {self.seconds * 1e3:.3g} ms, {self.rate:.0f}/s"


@dataclass
class Trials:
    """Tries options one after the other, and twice those whose engines can be kept: others use this machine too."""

    served: ServedModel
    times: float
    done: list[Trial] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def try_engine(self, options: list[Option], end: float) -> None:
        """Try the options of one engine. Raises what makes it unfit to answer for the model."""
        reference: Tensors | None = None
        for option in options:
            if self.done and perf_counter() > end:
                self.refused.append(f"{option}: not tried, there was no time left")
                continue
            engine, candidate = option.open(self.served)
            if reference is None:
                check_golden(engine, candidate, self.served.spec.name)
            inputs = samples(candidate, 1)
            answer = engine.run(inputs)
            # The same image gets the same answer, whatever number of threads this machine likes best.
            if reference is not None and not equal(answer, reference):
                self.refused.append(f"{option}: answers with other bits")
                continue
            reference = reference or answer
            light = candidate.artifact.file.stat().st_size <= LIGHT or self.times == 1
            trial = Trial(option, engine if light else None, inputs)
            trial.measure(engine, self.times)
            if self._settled(trial):
                break

    def _settled(self, trial: Trial) -> bool:
        """Take the trial in; True if no other option of its engine has to be tried."""
        option = trial.option
        if option.only_tiny and not trial.tiny:
            return False  # it would stop the server
        if trial.tiny and (option.threads == 1 or option.only_tiny):
            trial.option = replace(option, streams=1)
            same = (option.engine, option.format)
            self.done = [t for t in self.done if (t.option.engine, t.option.format) != same]
            self.done.append(trial)
            return True
        self.done.append(trial)
        return False

    def once_more(self, end: float) -> None:
        """A second round, if there is something to compare."""
        for trial in self.done if len(self.done) > 1 else ():
            if trial.engine is not None and perf_counter() < end:
                trial.measure(trial.engine, self.times)


def choose(served: ServedModel, options: list[list[Option]]) -> tuple[Choice, Engine]:
    """The best of `options` (groups of one engine each), and its engine, warm and checked.

    Raises `ServerError` if none can answer for the model.
    """
    trials = Trials(served, THOROUGH if len(options) > 1 else 1)
    errors: list[ServerError | MissingDependencyError] = []
    end = perf_counter() + BUDGET
    for group in options:
        try:
            trials.try_engine(group, end)
        except InferenceError:
            continue  # samples that are made up fit few models
        except (ServerError, MissingDependencyError) as error:
            errors.append(error)
            trials.refused.append(f"{group[0].engine}: {error.message}")
    trials.once_more(end)
    if trials.done:
        return _decided(trials, fastest(trials.done))
    if errors:
        raise errors[0]
    option = options[0][0]
    return Choice(option, why=f"{option}: there are no samples to measure it with"), opened(
        served, option
    )


def fastest(trials: list[Trial]) -> Trial:
    """By the rule at the top of this module."""
    best = max(trial.rate for trial in trials)
    return min((t for t in trials if t.rate * MARGIN >= best), key=lambda trial: trial.seconds)


def opened(served: ServedModel, option: Option) -> Engine:
    """The engine of an option, checked."""
    engine, candidate = option.open(served)
    check_golden(engine, candidate, served.spec.name)
    return engine


def _decided(trials: Trials, best: Trial) -> tuple[Choice, Engine]:
    served, option = trials.served, best.option
    engine = best.engine or opened(served, option)
    candidate: Candidate = next(c for c in served.candidates if c.artifact.format == option.format)
    gain: BatchGain = batch_gain(engine, candidate, best.seconds)
    others = [str(trial) for trial in trials.done if trial is not best] + trials.refused
    why = str(best) + (f"; tried beside {', '.join(others)}" if others else "")
    return Choice(
        option, best.seconds, elements(best.inputs), gain, f"{why}; {BATCHES[gain]}"
    ), engine
