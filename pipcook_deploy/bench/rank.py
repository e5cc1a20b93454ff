"""Orders what was timed, the fastest first."""

from collections.abc import Iterable
from itertools import groupby

from pipcook_deploy.report.entries import BenchEntry, RankEntry, TimedEntry


def rank(entries: Iterable[BenchEntry]) -> tuple[RankEntry, ...]:
    """Places by the median time, among entries with the same threads and batch.

    Equal times share a place. An unstable measurement has its place too, and says so.
    """
    ordered = sorted(entries, key=lambda e: (e.threads, e.batch, e.p50_ms, e.format, e.runtime))
    plain = {_key(entry): entry.p50_ms for entry in ordered if entry.artifact == "float32"}
    rows: list[RankEntry] = []
    for _, alike in groupby(ordered, key=lambda e: (e.threads, e.batch)):
        group = list(alike)
        for entry in group:
            place = 1 + sum(other.p50_ms < entry.p50_ms for other in group)
            rows.append(_row(entry, place, plain.get(_key(entry))))
    return tuple(rows)


def _key(entry: BenchEntry) -> tuple[str, str, int, int]:
    return entry.format, entry.runtime, entry.threads, entry.batch


def _row(entry: BenchEntry, place: int, plain: float | None) -> RankEntry:
    compared = entry.artifact == "compressed" and plain is not None and entry.p50_ms > 0
    return RankEntry(
        place=place,
        speed_up=plain / entry.p50_ms if compared and plain is not None else None,
        **entry.model_dump(include=set(TimedEntry.model_fields)),
    )
