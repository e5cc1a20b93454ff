"""Finds the best artifact of one format inside the budget.

Everything that a format's converter offers is built of every model variant; what costs least by the goal is
measured first. The first that keeps the budget on the selection split has to keep it again on the verdict
split, which nothing was chosen with. One that does not is tried again with its most harmful parts in float32.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from pipcook_deploy.compression.candidates import SOURCE, Build, Judged, Trial, Variant
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.parts import mixtures, more_parts, worst_parts
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import CompressionError, ConversionError, DeployError, OutputError
from pipcook_deploy.metrics import metric_called

STANDARD_ERRORS = 1.96  # in half a 95 % interval
MOST_VERDICTS = 5  # the more often the verdict split is asked, the less it proves
MOST_REPAIRS = 6  # of one candidate: 1, 2, 4 ... parts in float32
FIRST_LOOK = 500  # samples that tell what is far outside the budget
ABOUT_THE_SAME = 1.05  # as much as the least
WORTH_REPAIRING = 0.2  # of the budget, lost by the precision alone

Tell = Callable[[str, int, int | None], None]  # what happens, how many are done, of how many


@dataclass
class FormatSearch:
    """The search for one format.

    `choices` are the converters to try of each variant; `latency` measures a build in milliseconds, if the goal
    asks for it.
    """

    lab: Lab
    converter: Converter
    variants: Sequence[Variant]
    budget: BudgetOptions
    deadline: float
    choices: Sequence[Converter]
    latency: Callable[[Build], float | None] | None = None
    tell: Tell = lambda *_: None
    trials: list[Trial] = field(default_factory=list)
    verdicts: int = 0
    _queue: list[tuple[float, int, Trial]] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _base: Trial | None = None

    @property
    def format(self) -> str:
        """What it searches for."""
        return self.converter.format

    @property
    def winner(self) -> Trial | None:
        """The best that kept the budget twice."""
        return next((trial for trial in self.trials if trial.state == "winner"), None)

    @property
    def base(self) -> Trial:
        """The source in this format, every weight float32."""
        if self._base is None:
            raise CompressionError(f"{self.format}: was not built yet")
        return self._base

    def run(self) -> Trial | None:
        """The winner, or None when nothing keeps the budget."""
        self._start()
        if self._base is not None and self._base.build is not None and not self._float_allowed():
            self._queue = [row for row in self._queue if row[2] is not self._base]
            heapq.heapify(self._queue)
        while self._queue and self.winner is None and self.verdicts < MOST_VERDICTS:
            if self._late() and self._queue[0][2] is not self._base:
                break
            self._measure(self._next())
        if self.winner is None:
            self._fall_back()
        best = best_of(self)
        if self.winner is None and best is not None and best.verdict is None:
            # To be told of, on all samples and not at a first look.
            best.selection = self.lab.judge(_built(best), "selection")
        self._explore()
        return self.winner

    # ---- building

    def _start(self) -> None:
        self._base = self._try(self.lab.source_variant(), self.converter.uncompressed())
        if self._base.build is None:
            raise ConversionError(f"{self.format}: {self._base.reason}")
        for variant in self.variants:
            for choice in self.choices:
                if self._late():
                    return
                self._try(variant, choice)
            if len(self.choices) > 1 and not self._late():
                for choice in mixtures(self.lab, self.converter, variant):
                    self._try(variant, choice)

    def _try(self, variant: Variant, converter: Converter, left_out: int = 0) -> Trial:
        """Build a candidate and put it in the queue."""
        started = monotonic()
        options = converter.model_dump(mode="json", exclude_defaults=True, exclude={"calibration"})
        trial = Trial(
            id=f"{self.format}-{len(self.trials) + 1}",
            format=self.format,
            label=variant.label,
            precision=str(options.get("precision", "float32")),
            options=options,
            left_out=left_out,
        )
        self.trials.append(trial)
        try:
            build = self.lab.build(variant, converter)
            trial.build, trial.precision = build, build.precision
            trial.cost = self._cost(trial)
        except (ConversionError, CompressionError) as error:
            trial.state, trial.reason = "failed", error.message.splitlines()[0]
            return trial
        trial.seconds = monotonic() - started
        if build.key not in self._seen:
            self._seen.add(build.key)
            heapq.heappush(self._queue, (trial.cost, len(self.trials), trial))
        else:
            self.trials.remove(trial)
        every = max(len(self.trials), len(self.variants) * len(self.choices) + 1)
        self.tell(f"{self.format}: {trial.label}, {trial.precision} built", len(self.trials), every)
        return trial

    def _cost(self, trial: Trial) -> float:
        if trial.build is None:
            return float("inf")
        size = float(trial.build.wire_size)
        if self.budget.goal == "size" or self.latency is None:
            return size
        trial.latency_ms = self.latency(trial.build)
        if trial.latency_ms is None:
            return size  # nothing times it
        return trial.latency_ms if self.budget.goal == "latency" else size * trial.latency_ms

    # ---- measuring

    def _next(self) -> Trial:
        """What costs least; of those that cost about as little the fastest."""
        least = self._queue[0][0]
        near = [row for row in self._queue if row[0] <= least * ABOUT_THE_SAME]
        chosen = min(near, key=lambda row: (_built(row[2]).converter.slowness(), *row[:2]))
        self._queue.remove(chosen)
        heapq.heapify(self._queue)
        return chosen[2]

    def _measure(self, trial: Trial) -> None:
        started = monotonic()
        try:
            self._judge(trial)
        except OutputError:
            raise  # no fault of the candidate
        except DeployError as error:
            trial.state, trial.reason = "failed", error.message.splitlines()[0]
        trial.seconds += monotonic() - started
        self._tell_outcome(trial)
        if trial.state == "out of budget":
            self._repair(trial)

    def _judge(self, trial: Trial) -> None:
        build = _built(trial)
        if self._is_hopeless(trial):
            return
        trial.selection = self.lab.judge(build, "selection")
        if not self._promises(trial.selection) and trial is not self._base:
            trial.state = "out of budget"
            trial.reason = f"{self._drop(trial.selection)} of the selection split"
            return
        self._ask(trial)

    def _ask(self, trial: Trial) -> None:
        """The verdict on a candidate."""
        trial.verdict = self.lab.judge(_built(trial), "verdict")
        self.verdicts += 1
        if self._keeps(trial.verdict.drop.value):
            trial.state, trial.reason = "winner", None
        else:
            trial.state = "out of budget"
            trial.reason = f"{self._drop(trial.verdict)} of the verdict split"

    def _is_hopeless(self, trial: Trial) -> bool:
        """Whether a first look at few samples is enough: even the lower end of its interval is too much."""
        if trial is self._base or self.lab.data.splits["selection"].count < 2 * FIRST_LOOK:
            return False
        look = self.lab.judge(_built(trial), "selection", FIRST_LOOK)
        if look.drop.low <= self.budget.max_drop:
            return False
        trial.selection, trial.state = look, "out of budget"
        trial.reason = f"{self._drop(look)} at a first look"
        return True

    def _promises(self, judged: Judged) -> bool:
        """Whether it keeps the budget with a standard error to spare, but for a third of the budget at most.

        The selection split is one draw of the data. Without a margin the verdict, on another draw, would refuse
        every other choice; on a small split the margin would leave nothing to choose.
        """
        error = (judged.drop.high - judged.drop.low) / 2 / STANDARD_ERRORS
        return self._keeps(judged.drop.value + min(error, self.budget.max_drop / 3))

    def _keeps(self, drop: float) -> bool:
        return drop <= self.budget.max_drop + 1e-12

    def _repair(self, trial: Trial) -> None:
        """The same candidate with more of its most harmful parts left in float32, but never all of them."""
        build = _built(trial)
        if self._late() or trial.left_out >= 2**MOST_REPAIRS or not self._from_precision(trial):
            return
        if build.variant.key == SOURCE and any("equalize" in v.passes for v in self.variants):
            return  # the equalized model computes the same, and is mended with fewer floats
        if build.converter.damage_options() != self.converter.damage_options():
            return  # the next candidate is the repair: with the scales that the user left alone
        try:
            parts = worst_parts(self.lab, build)
        except DeployError as error:
            trial.reason = f"{trial.reason}; its parts could not be told apart: {error.message}"
            return
        left_out = more_parts(trial.left_out, len(parts))
        if left_out == trial.left_out:
            return
        converter = build.converter.without(parts[:left_out])
        if converter is not None:
            self._try(build.variant, converter, left_out)

    def _from_precision(self, trial: Trial) -> bool:
        """Whether the precision did most of the harm, and not the passes before it."""
        build = _built(trial)
        judged = trial.verdict or trial.selection
        if judged is None or not build.variant.passes:
            return True
        model = self.lab.judge_model(build.variant, judged.split)
        return judged.drop.value - model.drop.value > self.budget.max_drop * WORTH_REPAIRING

    # ---- the end

    def _fall_back(self) -> None:
        """The source in float32; if the user wants another, what kept the budget with nothing to spare."""
        if self._float_allowed():
            if self.base.state == "built":
                self._measure(self.base)
            return
        refused = [t for t in self.trials if t.state == "out of budget" and t.verdict is None]
        close = [t for t in refused if t.selection and self._keeps(t.selection.drop.value)]
        for trial in sorted(close, key=lambda trial: trial.cost):
            if self.winner is None and self.verdicts < MOST_VERDICTS and not self._late():
                self._ask(trial)

    def _float_allowed(self) -> bool:
        """Not if the user chose a precision or passes: then that is what is judged."""
        source = any(variant.key == SOURCE for variant in self.variants)
        return source and is_among(self.converter.uncompressed(), self.choices)

    def _explore(self) -> None:
        """Measure some more, so that a report shows what else could be had; the source is always shown."""
        if self.base.selection is None:
            self.base.selection = self.lab.judge(_built(self.base), "selection")
            self.base.state = "in budget" if self.base.state == "built" else self.base.state
        rest = [heapq.heappop(self._queue)[2] for _ in range(len(self._queue))]
        for trial in [trial for trial in rest if trial is not self._base][: self.budget.explore]:
            if self._late():
                return
            self._show(trial)

    def _show(self, trial: Trial) -> None:
        started = monotonic()
        try:
            trial.selection = self.lab.judge(_built(trial), "selection")
        except OutputError:
            raise  # no fault of the candidate
        except DeployError as error:
            trial.state, trial.reason = "failed", error.message.splitlines()[0]
        else:
            fits = self._promises(trial.selection)
            trial.state = "in budget" if fits else "out of budget"
        trial.seconds += monotonic() - started
        self._tell_outcome(trial)

    def _tell_outcome(self, trial: Trial) -> None:
        done = self._measured()
        self.tell(f"{self.format}: {self._outcome(trial)}", done, done + len(self._queue))

    def _late(self) -> bool:
        return monotonic() > self.deadline

    def _measured(self) -> int:
        return sum(trial.selection is not None for trial in self.trials)

    def _outcome(self, trial: Trial) -> str:
        judged = trial.verdict or trial.selection
        what = f"{trial.label}, {trial.precision}"
        return f"{what}: {trial.reason or (self._drop(judged) if judged else trial.state)}"

    def _drop(self, judged: Judged) -> str:
        metric, drop = metric_called(self.lab.metric), judged.drop.value
        what = f"{'loses' if drop >= 0 else 'gains'} {metric.shown(abs(drop)).strip()}"
        return f"{what} of {metric.title} on {judged.samples:,} samples"


def best_of(search: FormatSearch) -> Trial | None:
    """The one that lost least of those that were refused."""
    tried = [t for t in search.trials if t.selection and t.state == "out of budget"]
    return min(tried, key=lambda t: (_dropped(t), t.cost), default=None)


def is_among(converter: Converter, others: Sequence[Converter]) -> bool:
    """Whether one writes the same, however its options were given."""
    return any(converter.model_dump() == other.model_dump() for other in others)


def _dropped(trial: Trial) -> float:
    judged = trial.verdict or trial.selection
    return judged.drop.value if judged else float("inf")


def _built(trial: Trial) -> Build:
    if trial.build is None:
        raise CompressionError(f"{trial.id}: was not built")
    return trial.build
