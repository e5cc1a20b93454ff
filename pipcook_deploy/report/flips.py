"""Samples whose answer changed, the most telling first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_deploy.data.split import Split
from pipcook_deploy.report.answers import Answers, class_targets, label, read_answers
from pipcook_deploy.report.entries import FlipCounts, FlipEntry
from pipcook_deploy.report.pictures import Pictures
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.spec import ModelSpec

LONGEST_TEXT = 400  # characters of an excerpt
CLASSIFYING = ("image-classification", "text-classification")
LOST, MENDED, OTHER = range(3)


def find_flips(
    spec: ModelSpec,
    split: Split,
    rows: Sequence[int],
    before: Tensors,
    after: Tensors,
    format: str,
    most: int = 24,
    texts: Callable[[int], str] | None = None,
) -> tuple[FlipEntry, ...]:
    """Up to `most` samples that are answered otherwise, for the answers to the samples `rows` of a split.

    Right answers that were lost come first, then wrong ones that were mended, then all others; within
    these, the largest change in score between the two answers. `texts` tells what sample `row` reads.
    """
    flips = _flips(spec, split, rows, before, after)
    inputs, origins = split.inputs(), split.origins()
    pictures = Pictures(spec, inputs)
    read = texts or _texts(inputs)
    return tuple(
        FlipEntry(
            format=format,
            origin=_short(origins[flip.row]),
            picture=None if read else pictures.of(flip.row, origins[flip.row]),
            text=_excerpt(read(flip.row)) if read else None,
            truth=None if flip.truth is None else label(spec, flip.truth),
            before=label(spec, flip.old),
            before_score=flip.old_score,
            after=label(spec, flip.new),
            after_score=flip.new_score,
        )
        for flip in flips[:most]
    )


def count_flips(
    spec: ModelSpec, split: Split, rows: Sequence[int], before: Tensors, after: Tensors
) -> FlipCounts:
    """How many answers to the samples `rows` changed, by what became of them."""
    kinds = [flip.kind for flip in _flips(spec, split, rows, before, after)]
    return FlipCounts(lost=kinds.count(LOST), mended=kinds.count(MENDED), other=kinds.count(OTHER))


@dataclass(frozen=True)
class _Flip:
    row: int
    kind: int
    change: float
    truth: int | None
    old: int
    old_score: float | None
    new: int
    new_score: float | None


def _flips(
    spec: ModelSpec, split: Split, rows: Sequence[int], before: Tensors, after: Tensors
) -> list[_Flip]:
    """Every one, in order. None for a model that does not classify."""
    was, now = read_answers(spec, before), read_answers(spec, after)
    targets = class_targets(split.targets())
    told = targets is not None or spec.labels or spec.task in CLASSIFYING
    if was is None or now is None or was.shares.shape != now.shares.shape or not told:
        return []
    places = (was.positions != now.positions).nonzero()[0].tolist()
    found = [_flip(place, rows[place], targets, was, now) for place in places]
    return sorted(found, key=lambda flip: (flip.kind, -flip.change, flip.row))


def _flip(place: int, row: int, targets: Any, was: Answers, now: Answers) -> _Flip:
    truth = None if targets is None else int(targets[row])
    old, new = int(was.positions[place]), int(now.positions[place])
    before, after = was.shares[place], now.shares[place]
    swing = (before[old] - before[new]) - (after[old] - after[new])
    return _Flip(
        row=int(row),
        kind=LOST if truth == old else MENDED if truth == new else OTHER,
        change=round(float(swing), 9),
        truth=truth,
        old=old,
        old_score=round(float(before[old]), 6) if old >= 0 else None,
        new=new,
        new_score=round(float(after[new]), 6) if new >= 0 else None,
    )


def _texts(inputs: dict[str, Any]) -> Callable[[int], str] | None:
    """What a model reads that takes text itself."""
    for value in inputs.values():
        if value.dtype.kind in "OUS":
            return lambda row: " ".join(str(part) for part in value[row].ravel().tolist())
    return None


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST_TEXT else flat[: LONGEST_TEXT - 1] + "…"


def _short(origin: str) -> str:
    """A file by its name and its folder's: the same on every machine."""
    path = Path(origin)
    return "/".join(path.parts[-2:]) if path.is_absolute() else origin
