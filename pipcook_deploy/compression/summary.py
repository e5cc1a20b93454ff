"""The report of a compression, from what was tried."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipcook_deploy.compression.candidates import Judged, Trial
from pipcook_deploy.compression.compress import Compressed
from pipcook_deploy.compression.lab import Lab
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.compression.search import FormatSearch, best_of
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import DeployError
from pipcook_deploy.metrics import metric_called
from pipcook_deploy.report.entries import (
    CandidateEntry,
    ClassEntry,
    FlipCounts,
    FlipEntry,
    LayerEntry,
    ProofEntry,
    Report,
    SplitEntry,
    Verdict,
)
from pipcook_deploy.spec import ModelSpec
from pipcook_deploy.text import human_bytes

STATES: dict[str, Verdict] = {
    "winner": "winner",
    "in budget": "in budget",
    "built": "in budget",
    "out of budget": "out of budget",
    "failed": "failed",
}
SAMPLES_ARE = {"image": "images", "object": "images", "text": "texts", "tabular": "rows"}
FLIPS = 12  # of a format


def summarize(lab: Lab, budget: BudgetOptions | None, done: Compressed) -> Report:
    """Everything that was measured."""
    metric, spec = metric_called(lab.metric), lab.source.spec
    told = _told(lab, done.searches)
    kind = spec.task.split("-")[0]
    return Report(
        name=spec.name,
        version=spec.version,
        metric=lab.metric,
        unit="%" if metric.scale == 100 else metric.unit,
        higher_is_better=metric.higher_is_better,
        samples_are=SAMPLES_ARE.get(kind, "samples"),
        max_drop=budget.max_drop if budget else 0.0,
        goal=budget.goal if budget else "none",
        seed=budget.seed if budget else 0,
        seconds=round(done.seconds, 1),
        splits=tuple(
            SplitEntry(name=part.name, count=part.count, sha256=part.sha256)
            for part in lab.data.splits.values()
        ),
        bad_samples=lab.data.bad,
        source=done.source.score,
        candidates=_candidates(lab, done, metric.higher_is_better),
        winners={s.format: s.winner.id for s in done.searches if s.winner},
        why={s.format: _why(s, done.errors.get(s.format)) for s in done.searches},
        classes=tuple(ClassEntry.model_validate(row) for row in told["classes"]),
        layers=_layers(done),
        flips=tuple(FlipEntry.model_validate(row) for row in told["flips"]),
        flip_counts={name: FlipCounts.model_validate(row) for name, row in told["counts"].items()},
        bench=done.bench,
        notes=(*unjudged(spec), *done.variants.notes, *done.untimed, *lab.data.describe()),
    )


def unjudged(spec: ModelSpec) -> list[str]:
    """What the metric does not look at."""
    others = [tensor.name for tensor in spec.outputs[1:]]
    if not others or spec.task == "object-detection":
        return []
    said = ", ".join(others)
    return [f"only the first output, {spec.outputs[0].name}, is judged; {said} may have lost more"]


def tell_changes(
    spec: dict[str, Any], split: dict[str, Any], before: str, after: dict[str, str]
) -> Any:
    """A worker's part: classes and flipped samples, from folders of answers by format."""
    from pipcook_deploy.report.classes import class_table
    from pipcook_deploy.report.flips import count_flips, find_flips
    from pipcook_deploy.tensors import load_tensors

    described, part = ModelSpec.model_validate(spec), Split.from_json(split)
    old = load_tensors(Path(before))
    new = {format: load_tensors(Path(folder)) for format, folder in after.items()}
    rows = range(part.count)
    flips = [
        flip
        for format, answers in new.items()
        for flip in find_flips(described, part, rows, old, answers, format, FLIPS)
    ]
    classes = class_table(described, part.targets(), old, new)
    return {
        "classes": [row.model_dump(mode="json") for row in classes],
        "flips": [row.model_dump(mode="json") for row in flips],
        "counts": {
            format: count_flips(described, part, rows, old, answers).model_dump(mode="json")
            for format, answers in new.items()
        },
    }


def _told(lab: Lab, searches: Sequence[FormatSearch]) -> Any:
    """What changed for the samples of the verdict split."""
    after = {
        search.format: str(search.winner.verdict.answers)
        for search in searches
        if search.winner and search.winner.verdict
    }
    arguments = {
        "spec": lab.source.spec.model_dump(mode="json"),
        "split": lab.data.splits["verdict"].to_json(),
        "before": str(lab.reference("verdict")),
        "after": after,
    }
    call = "pipcook_deploy.compression.summary:tell_changes"
    return lab.workers.call(call, arguments, heavy=False)


def _candidates(lab: Lab, done: Compressed, higher: bool) -> tuple[CandidateEntry, ...]:
    from pipcook_deploy.report.pareto import mark_front

    source = lab.source_score("verdict")
    trials = [trial for search in done.searches for trial in search.trials]
    trials += done.variants.trials
    return mark_front([_candidate(trial, source) for trial in trials], higher)


def _candidate(trial: Trial, source: Judged) -> CandidateEntry:
    build, selection, verdict = trial.build, trial.selection, trial.verdict
    return CandidateEntry(
        id=trial.id,
        format=trial.format,
        model=trial.label,
        precision=trial.precision,
        options=trial.options,
        size=build.size if build else None,
        wire_size=build.wire_size if build else None,
        sparsity=build.variant.sparsity if build else None,
        score=selection.score if selection else None,
        drop=selection.drop if selection else None,
        samples=selection.samples if selection else 0,
        latency_ms=trial.latency_ms,
        verdict=STATES[trial.state],
        reason=trial.reason
        or (None if selection else "not measured: a better one was found first"),
        seconds=round(trial.seconds, 2),
        proof=None
        if verdict is None
        else ProofEntry(
            source=source.score,
            score=verdict.score,
            drop=verdict.drop,
            samples=verdict.samples,
        ),
    )


def _why(search: FormatSearch, error: DeployError | None) -> str:
    if error is not None:
        return f"{error.message}. {error.hint or ''}".strip()
    winner = search.winner
    if winner is None or winner.build is None:
        return "nothing was found"
    cheaper = [t for t in search.trials if t.cost < winner.cost]
    refused = [t for t in cheaper if t.state == "out of budget"]
    size = human_bytes(winner.build.wire_size)
    goal = {
        "latency": ("the fastest", "faster"),
        "balanced": ("the best by size and latency", "better"),
    }
    most, more = goal.get(search.budget.goal, ("the smallest on the wire", "smaller"))
    text = f"{most} that kept the budget ({size}), of {len(search.trials)} candidates"
    if refused:
        best = best_of(search)
        text += f"; {len(refused)} {more} lost too much"
        text += f", the closest {best.label} in {best.precision}" if best in refused else ""
    return text


def _layers(done: Compressed) -> tuple[LayerEntry, ...]:
    winners = [search.winner for search in done.searches if search.winner]
    after: Mapping[str, Any] = {}
    for winner in winners:
        layers = winner.build.variant.details.get("layers") if winner.build else None
        if isinstance(layers, dict):
            after = layers
            break
    rows = []
    for row in done.variants.sensitivity:
        changed = after.get(row["name"]) or {}
        fields = {key: row[key] for key in LayerEntry.model_fields if key in row}
        fields["sparsity"] = changed.get("sparsity", row.get("sparsity", 0.0))
        if "histogram" in changed:
            fields["after"] = changed["histogram"]
        fields["precision"] = {
            winner.format: _precision_in(winner, row["name"]) for winner in winners if winner.build
        }
        rows.append(LayerEntry.model_validate(fields))
    return tuple(rows)


def _precision_in(winner: Trial, kernel: str) -> str:
    """What a winner stores one layer's kernel in, as far as the names in its format tell.

    Converters name what they treat apart after the layer: `model/conv0/Conv2D`.
    """
    layer = kernel.rpartition("/")[0] or kernel
    if winner.build is None:
        return winner.precision
    converter, details = winner.build.converter.model_dump(), winner.build.artifact["details"]
    levels, weights = converter.get("levels"), converter.get("weights") or {}
    for glob, count in levels.items() if isinstance(levels, dict) else ():
        if _is_of(glob, layer):
            return f"uint8, {count} levels"
    if any(how == "float32" and _is_of(glob, layer) for glob, how in weights.items()):
        return "float32"
    quantization = details.get("quantization") or {}
    apart = [*(quantization.get("float") or ()), *(details.get("excluded") or ())]
    if any(_is_of(str(name), layer) for name in apart):
        return "float32"
    return winner.precision


def _is_of(name: str, layer: str) -> bool:
    path = "/" + name.replace(";", "/") + "/"
    return f"/{layer}/" in path or f"/{layer}_1/" in path
