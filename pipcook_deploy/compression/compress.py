"""The compression of a stage: variants, searches, the gate, timing and the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from pipcook_deploy.assemble import Made
from pipcook_deploy.compression.budget_check import check_by_answers, check_by_count, check_finite
from pipcook_deploy.compression.candidates import Build, Judged, Trial
from pipcook_deploy.compression.gate import refusal
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.request import CompressionRequest
from pipcook_deploy.compression.search import FormatSearch
from pipcook_deploy.compression.timing import latency_in, timed_pairs
from pipcook_deploy.compression.variants import Variants, make_variants
from pipcook_deploy.converter import Converter
from pipcook_deploy.errors import DeployError
from pipcook_deploy.manifest import BlessingEntry, CompressionEntry, VerificationEntry
from pipcook_deploy.metrics import metric_called
from pipcook_deploy.report.entries import BenchEntry
from pipcook_deploy.samples import Samples
from pipcook_deploy.schedule import Listener, Task, run_tasks, watched_step
from pipcook_deploy.tensors import load_tensors
from pipcook_deploy.verification import Check, joined, verifications

LADDER_SHARE = 0.6  # of the time limit: the rest is for the formats
UNLIMITED = BudgetOptions(max_drop=float("inf"), explore=0)


@dataclass(frozen=True)
class Compressed:
    """What came of it. `errors` are the formats that nothing was good enough for, by format; `untimed` says what
    could not be timed, and why."""

    searches: list[FormatSearch]
    variants: Variants
    made: list[Made]
    bench: tuple[BenchEntry, ...]
    errors: dict[str, DeployError]
    source: Judged
    seconds: float
    untimed: tuple[str, ...] = ()


@dataclass
class Compressor:
    """Runs a compression in a lab, showing its steps to a listener.

    `inputs` is the folder of the golden inputs.
    """

    lab: Lab
    request: CompressionRequest
    converters: Sequence[Converter]
    samples: Samples
    inputs: Path
    jobs: int
    listener: Listener
    untimed: list[str] = field(default_factory=list)

    def run(self) -> Compressed:
        """Search every format; an error of one does not end the others."""
        started = monotonic()
        budget = self.request.budget or UNLIMITED
        source = self._step("measure the source", self._source)
        deadline = started + budget.time_limit
        halfway = started + LADDER_SHARE * budget.time_limit
        variants = make_variants(self.lab, self.request, halfway, self._step)
        searches = [self._search(converter, variants, deadline) for converter in self.converters]
        errors = self._run_searches(searches)
        made, failed = self._prove([s for s in searches if s.format not in errors])
        bench = self._bench(searches, made)
        seconds = monotonic() - started
        lacking = tuple(self.untimed)
        return Compressed(
            searches, variants, made, bench, errors | failed, source, seconds, lacking
        )

    def _step(self, name: str, run: Callable[[], Any]) -> Any:
        return watched_step(name, self.listener, run)

    def _source(self) -> Judged:
        answers = self.lab.source_score("verdict").answers
        metric, budget = metric_called(self.lab.metric), self.request.budget
        splits = self.lab.data.splits
        verdict = splits["verdict"]
        if budget is not None and not check_by_count(metric, budget, verdict.count):
            spec = self.lab.source.spec
            check_by_answers(metric, budget, verdict, load_tensors(answers), spec)
        selection = self.lab.source_score("selection")
        for found, split in ((answers, verdict), (selection.answers, splits["selection"])):
            check_finite(load_tensors(found), split, self.request.data.bad_limit)
        return selection

    # ---- searching

    def _search(self, converter: Converter, variants: Variants, deadline: float) -> FormatSearch:
        budget, found = self.request.budget, variants.found
        if budget is None:  # nothing is chosen: what the user asked for is written and measured
            return FormatSearch(self.lab, converter, found[:1], UNLIMITED, deadline, (converter,))
        latency = None
        if budget.goal != "size":
            latency = latency_in(self.lab.workers, self.inputs, self.request.bench)
        choices = converter.candidates()
        return FormatSearch(self.lab, converter, found, budget, deadline, choices, latency)

    def _run_searches(self, searches: list[FormatSearch]) -> dict[str, DeployError]:
        # Timing wants the cores for itself.
        jobs = 1 if any(search.latency for search in searches) else self.jobs
        tasks = []
        for search in searches:
            name = f"search {search.format}"
            search.tell = partial(self.listener.advanced, name)
            tasks.append(Task(name, partial(self._checked, search)))
        outcome = run_tasks(tasks, jobs=jobs, listener=self.listener)
        return {name.removeprefix("search "): error for name, error in outcome.errors.items()}

    def _checked(self, search: FormatSearch, _: Mapping[str, Any]) -> None:
        """The gate: a format without a winner ends its task with an error."""
        if search.run() is None:
            has_train = "train" in self.lab.data.splits
            has_layers = self.lab.trainable() is not None
            raise refusal(search, has_train=has_train, has_layers=has_layers)

    # ---- proving the winners

    def _prove(self, searches: list[FormatSearch]) -> tuple[list[Made], dict[str, DeployError]]:
        """Every winner in every runtime, against its own answers to the golden samples."""
        tasks: list[Task] = []
        errors: dict[str, DeployError] = {}
        for search in searches:
            build = _winning(search)
            try:
                answers = self._golden(build)
            except DeployError as error:  # of one format: the others go on
                errors[search.format] = error
                continue
            tasks += self._verifications(search.format, build, answers)
        outcome = run_tasks(tasks, jobs=self.jobs, listener=self.listener)
        made = []
        for search in [s for s in searches if s.format not in errors]:
            prefix = f"verify {search.format} ("
            failed = joined([e for name, e in outcome.errors.items() if name.startswith(prefix)])
            if failed:
                errors[search.format] = failed
                continue
            proof = [row for name, row in outcome.results.items() if name.startswith(prefix)]
            made.append(self._made(search, tuple(proof)))
        return made, errors

    def _verifications(self, format: str, build: Build, answers: Path) -> list[Task]:
        check = Check(
            format=format,
            model_format=build.artifact["model_format"],
            inputs=self.inputs,
            outputs=answers,
            hint="the compressed artifact answers otherwise there: it is not bundled",
            labels=self.samples.labels,
        )
        return verifications(check, lambda _: build.artifact, self.lab.workers)

    def _made(self, search: FormatSearch, proof: tuple[VerificationEntry, ...]) -> Made:
        build, winner = _winning(search), search.winner
        base = search.base.build
        if base is None or winner is None:
            raise AssertionError(search.format)  # it won
        return Made(
            format=search.format,
            artifact=build.artifact,
            chain=build.chain,
            options=build.converter.model_dump(mode="json"),
            files=build.files,
            verification=proof,
            compression=CompressionEntry(
                model=build.variant.label,
                sparsity=build.variant.sparsity,
                float_size=base.size,
                float_wire_size=base.wire_size,
                blessed_by=self._blessing(winner),
            ),
            answers=self._golden(build),
        )

    def _golden(self, build: Build) -> Path:
        """The artifact's own answers to the golden inputs."""
        return self.lab.answers(build, self.inputs, f"golden {self.lab.source.source_hash}")

    def _blessing(self, winner: Trial) -> BlessingEntry | None:
        if winner.verdict is None:
            return None
        split = self.lab.data.splits["verdict"]
        return BlessingEntry(
            metric=self.lab.metric,
            source=self.lab.source_score("verdict").score,
            value=winner.verdict.score,
            drop=winner.verdict.drop,
            max_drop=self.request.budget.max_drop if self.request.budget else None,
            samples=winner.verdict.samples,
            data_sha256=split.sha256,
        )

    # ---- timing

    def _bench(self, searches: list[FormatSearch], made: list[Made]) -> tuple[BenchEntry, ...]:
        if not self.request.bench.enabled or not made:
            return ()
        formats = {row.format for row in made}
        chosen = [search for search in searches if search.format in formats]
        pairs = [(search.base.build, _winning(search)) for search in chosen]
        whole = [(base, build) for base, build in pairs if base is not None]
        rows: list[BenchEntry] = self._step(
            "bench",
            lambda: timed_pairs(
                self.lab.workers, self.inputs, self.request.bench, whole, self.untimed
            ),
        )
        return tuple(sorted(rows, key=lambda row: (row.batch, row.p50_ms)))


def _winning(search: FormatSearch) -> Build:
    winner = search.winner
    if winner is None or winner.build is None:
        raise AssertionError(search.format)  # asked for formats that won only
    return winner.build
