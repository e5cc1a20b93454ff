"""What a compression came to, as a table for the terminal."""

from typing import TYPE_CHECKING

from pipcook_deploy.cli.console import say, table
from pipcook_deploy.report.outcome import Outcome, outcomes
from pipcook_deploy.report.words import (
    MISSING,
    amount,
    change,
    change_interval,
    format_name,
    level,
    metric_name,
    milliseconds,
    ratio,
    size,
)
from pipcook_deploy.text import printable

if TYPE_CHECKING:
    from pipcook_deploy.report.entries import Report


def print_compression(report: "Report") -> None:
    """Each format before and after, and why it was kept or refused."""
    metric = metric_name(report.metric)
    found = outcomes(report)
    timed = any(outcome.times for outcome in found)
    rows = table(
        "format", "precision", "size", "on the wire", "smaller", metric, "change (95 % interval)",
        *(["time", "faster"] if timed else []), "verdict",
    )  # fmt: skip
    for outcome in found:
        rows.add_row(*(printable(cell) for cell in _cells(outcome, report, timed)))
    say(rows)
    for line in _remarks(found, report):
        say(line)


def _cells(outcome: Outcome, report: "Report", timed: bool) -> list[str]:
    before, after = outcome.times or (None, None)
    times = (
        [_pair(milliseconds(before), milliseconds(after)), ratio(before, after)] if timed else []
    )
    return [
        format_name(outcome.format),
        outcome.best.precision if outcome.best else MISSING,
        _pair(*map(size, outcome.size)),
        _pair(*map(size, outcome.wire)),
        ratio(*outcome.wire),
        _pair(level(outcome.source, report.unit), _score(outcome, report.unit)),
        _change(outcome, report.unit),
        *times,
        "kept" if outcome.kept else "refused",
    ]


def _remarks(found: tuple[Outcome, ...], report: "Report") -> list[str]:
    """What the numbers were measured on, and why each format is as it is."""
    judged = [outcome for outcome in found if outcome.samples]
    lines = []
    if judged:
        seen = " that the search never saw" if all(outcome.unseen for outcome in judged) else ""
        count = max(outcome.samples for outcome in judged)
        data = f"measured on {count:,} {report.samples_are}{seen}"
        limit = f"budget: {amount(report.max_drop, report.unit)} lost at most"
        lines.append(data if report.goal == "none" else f"{data}; {limit}")
    return lines + [f"{format_name(o.format)}: {o.why}" for o in found if o.why]


def _score(outcome: Outcome, unit: str) -> str:
    return MISSING if outcome.score is None else level(outcome.score.value, unit)


def _change(outcome: Outcome, unit: str) -> str:
    if outcome.change is None:
        return MISSING
    return f"{change(outcome.change.value, unit)} ({change_interval(outcome.change, unit)})"


def _pair(before: str, after: str) -> str:
    return MISSING if before == after == MISSING else f"{before} → {after}"
