"""Chooses how many levels each weight gets: most bytes saved for the least damage. Pure Python."""

from typing import Any


def assign(
    rows: list[dict[str, Any]], goal: int | None = None, limit: float | None = None
) -> dict[str, int | None]:
    """Levels by weight name (None: float32), from the rows of `weight_trial.weight_damage`.

    Greedy: of all steps to fewer levels the one with the least damage for each byte saved, until the bytes of
    all weights are at most `goal`, or as long as the damages add up to at most `limit`. With neither, or both
    out of reach, every weight ends with the fewest levels. Steps that save nothing are passed over.
    """
    at = {row["name"]: 0 for row in rows}
    stored = {row["name"]: _worthwhile(row["stored"]) for row in rows}
    size = sum(entries[0]["bytes"] for entries in stored.values())
    damage = sum(entries[0]["damage"] for entries in stored.values())
    refused: set[tuple[str, int]] = set()
    while goal is None or size > goal:
        steps = [
            (_price(entries[at[name]], entries[to]), name, to)
            for name, entries in stored.items()
            for to in range(at[name] + 1, len(entries))
            if (name, to) not in refused
        ]
        if not steps:
            break
        _, name, to = min(steps)
        before, after = stored[name][at[name]], stored[name][to]
        if limit is not None and damage - before["damage"] + after["damage"] > limit:
            refused.add((name, to))
            continue
        size += after["bytes"] - before["bytes"]
        damage += after["damage"] - before["damage"]
        at[name] = to
    return {name: stored[name][place]["levels"] for name, place in at.items()}


def _worthwhile(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each smaller than the one before; what is bigger for more damage is never chosen."""
    kept = [entries[0]]
    for entry in entries[1:]:
        if entry["bytes"] < kept[-1]["bytes"]:
            kept.append(entry)
    return kept


def _price(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Damage for a byte; a step that does no more damage is free."""
    more = max(0.0, float(after["damage"]) - float(before["damage"]))
    return more / float(before["bytes"] - after["bytes"])
