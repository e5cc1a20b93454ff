"""What a compression came to, format by format: the first thing that a report says."""

from dataclasses import dataclass

from pipcook_deploy.report.entries import BenchEntry, CandidateEntry, IntervalEntry, Report
from pipcook_deploy.report.words import (
    amount,
    change,
    change_interval,
    format_name,
    level,
    metric_name,
    ratio,
    size,
)

PLAIN = ("float32", "source")  # "source": a file that was taken over as it is


@dataclass(frozen=True)
class Outcome:
    """One format: its float32 artifact, and the winner or, if none keeps the budget, the best that there was.

    `change` is of the metric, in its own direction: a lost point of accuracy is -0.01, a grown error positive.
    """

    format: str
    kept: bool
    plain: CandidateEntry | None
    best: CandidateEntry | None
    source: float  # the source's score on the same samples
    score: IntervalEntry | None
    change: IntervalEntry | None
    samples: int
    unseen: bool  # judged on data that the search never saw
    times: tuple[float, float] | None  # median milliseconds before and after, in `runtime`
    runtime: str | None
    why: str

    @property
    def wire(self) -> tuple[int | None, int | None]:
        """Bytes on the wire before and after."""
        return _sizes(self.plain, self.best, "wire_size")

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Bytes on disk before and after."""
        return _sizes(self.plain, self.best, "size")


def outcomes(report: Report) -> tuple[Outcome, ...]:
    """Of every format that was asked for, in the order of the candidates.

    Those have a winner or a reason; a candidate of another format is a step on the way, a model not written yet.
    """
    asked = {*report.winners, *report.why}
    tried = [c.format for c in report.candidates if c.format in asked or not asked]
    return tuple(
        _outcome(report, name) for name in dict.fromkeys([*tried, *report.winners, *report.why])
    )


def sentence(outcome: Outcome, report: Report) -> str:
    """What happened to a format, for someone who ships it."""
    name = format_name(outcome.format)
    if outcome.best is None:
        return f"{name}: refused, nothing could be made and measured"
    before, after = outcome.wire
    sizes = f"{size(before)} → {size(after)} on the wire ({ratio(before, after)})"
    if before is None:
        sizes = f"{size(after)} on the wire"
    return f"{name}: {sizes}{_quality(outcome, report)}: {verdict(outcome, report)}"


def verdict(outcome: Outcome, report: Report) -> str:
    """ "kept", or that the budget refuses it."""
    if outcome.kept or report.goal == "none":
        return "kept" if outcome.kept else "failed"
    return f"refused, the budget is a loss of {amount(report.max_drop, report.unit)}"


def direction(drop: IntervalEntry, higher_is_better: bool) -> IntervalEntry:
    """A drop (positive is worse) as the change of the metric itself."""
    if not higher_is_better:
        return drop
    return IntervalEntry(value=-drop.value, low=-drop.high, high=-drop.low)


def _quality(outcome: Outcome, report: Report) -> str:
    if outcome.score is None:
        return ""
    unit, metric = report.unit, metric_name(report.metric)
    text = f", {metric} {level(outcome.source, unit)} → {level(outcome.score.value, unit)}"
    if outcome.change is None:
        return text
    seen = " that the search never saw" if outcome.unseen else ""
    data = f", on {outcome.samples:,} {report.samples_are}{seen}" if outcome.samples else ""
    interval = change_interval(outcome.change, unit)
    return f"{text} ({change(outcome.change.value, unit)}, 95 % interval {interval}{data})"


def _outcome(report: Report, name: str) -> Outcome:
    own = [c for c in report.candidates if c.format == name]
    plain = next((c for c in own if c.model == "source" and c.precision in PLAIN), None)
    winner = next((c for c in own if c.id == report.winners.get(name)), None)
    best = winner or _nearest([c for c in own if c is not plain])
    proof = best.proof if best else None
    drop = proof.drop if proof else best.drop if best else None
    timed = _times(report.bench, name)
    if timed is None and plain and best and plain.latency_ms and best.latency_ms:
        timed = None, plain.latency_ms, best.latency_ms
    return Outcome(
        format=name,
        kept=winner is not None,
        plain=plain,
        best=best,
        source=_source_score(report, best),
        score=proof.score if proof else best.score if best else None,
        change=direction(drop, report.higher_is_better) if drop else None,
        samples=proof.samples if proof else best.samples if best else 0,
        unseen=(proof.split if proof else best.split if best else "") == "verdict",
        times=None if timed is None else timed[1:],
        runtime=None if timed is None else timed[0],
        why=report.why.get(name, ""),
    )


def _nearest(candidates: list[CandidateEntry]) -> CandidateEntry | None:
    """The one that lost least: what a user would have to accept."""
    rated = [c for c in candidates if c.drop is not None and c.verdict != "failed"]
    return min(
        rated,
        key=lambda c: (c.drop.value if c.drop else 0.0, c.wire_size or 0, c.id),
        default=None,
    )


def _source_score(report: Report, best: CandidateEntry | None) -> float:
    """Of the samples that the candidate was judged on: another split has another score."""
    if best and best.proof:
        return best.proof.source.value
    if best and best.score and best.drop:
        drop = best.drop.value if report.higher_is_better else -best.drop.value
        return best.score.value + drop
    return report.source.value


def _times(bench: tuple[BenchEntry, ...], name: str) -> tuple[str | None, float, float] | None:
    """Before and after in the first runtime that timed both, for the fewest samples at once."""
    own = sorted((b for b in bench if b.format == name), key=lambda b: b.batch)
    for plain in (b for b in own if b.artifact == "float32"):
        for made in (b for b in own if b.artifact == "compressed"):
            if (made.runtime, made.threads, made.batch) == (
                plain.runtime,
                plain.threads,
                plain.batch,
            ):
                return plain.runtime, plain.p50_ms, made.p50_ms
    return None


def _sizes(
    plain: CandidateEntry | None, best: CandidateEntry | None, field: str
) -> tuple[int | None, int | None]:
    return (getattr(plain, field) if plain else None, getattr(best, field) if best else None)
