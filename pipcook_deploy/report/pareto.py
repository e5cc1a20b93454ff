"""The Pareto front: candidates that nothing else of their format beats in both score and size."""

from collections.abc import Sequence

from pipcook_deploy.report.entries import CandidateEntry


def mark_front(
    candidates: Sequence[CandidateEntry], higher_is_better: bool = True
) -> tuple[CandidateEntry, ...]:
    """The same candidates, in their order, with `on_front` set.

    One is on the front when no other of its format is as good in score and wire size and better in one of them.
    What failed, or was not measured, is not.
    """
    sign = 1 if higher_is_better else -1
    points = {c.id: point for c in candidates if (point := _point(c, sign)) is not None}
    formats = {c.id: c.format for c in candidates}

    def beaten(own: CandidateEntry) -> bool:
        return any(
            _beats(points[other], points[own.id])
            for other in points
            if formats[other] == own.format and other != own.id
        )

    return tuple(
        c.model_copy(update={"on_front": c.id in points and not beaten(c)}) for c in candidates
    )


def _point(candidate: CandidateEntry, sign: int) -> tuple[float, int] | None:
    """Score, the higher the better, and bytes on the wire."""
    if candidate.score is None or candidate.wire_size is None or candidate.verdict == "failed":
        return None
    return sign * candidate.score.value, candidate.wire_size


def _beats(one: tuple[float, int], other: tuple[float, int]) -> bool:
    return one != other and one[0] >= other[0] and one[1] <= other[1]
