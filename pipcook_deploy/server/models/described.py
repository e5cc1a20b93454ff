"""The index of the models, for people and programs."""

from collections.abc import Iterator
from typing import Any

from pipcook_deploy.server.models.registry import Registry
from pipcook_deploy.server.models.state import ModelState, State
from pipcook_deploy.server.models.versions import natural

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"


def rows(state: State, registry: Registry, loading: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """One a version, newest last: states as Triton names them, `share` of the requests that name no version."""
    found = []
    for name in sorted({*state.models, *(name for name, _ in loading)}):
        model = state.models.get(name, ModelState())
        versions = {*model.there, *model.broken, *model.loaded}
        versions |= {version for other, version in loading if other == name}
        for version in sorted(versions, key=natural):
            row = _row(name, version, model, registry)
            if row["state"] != READY and (name, version) in loading:
                row |= {"state": LOADING, "reason": ""}
            found.append(row)
    return found


def unavailable(state: State) -> dict[tuple[str, str], str]:
    """Why versions that are there are not served, by name and version."""
    return {
        (name, version): _why_not(version, model)
        for name, model in state.models.items()
        for version in {*model.there, *model.broken}
        if version not in model.loaded
    }


def newly_broken(before: State, after: State) -> Iterator[tuple[str, str, str]]:
    """Names and versions that have become no whole bundles, and why."""
    for name, model in after.models.items():
        known = before.models.get(name, ModelState()).broken
        for version, why in model.broken.items():
            if known.get(version) != why:
                yield name, version, why


def _row(name: str, version: str, model: ModelState, registry: Registry) -> dict[str, Any]:
    entry = registry.entries.get(name)
    loaded = entry.versions.get(version) if entry else None
    shares = model.shares or ({model.current: 1.0} if loaded else {})
    refused = model.refused.get(version)
    return {
        "name": name,
        "version": version,
        "state": UNAVAILABLE if loaded is None else READY,
        "reason": _why_not(version, model) if loaded is None else refused.reason if refused else "",
        "current": loaded is not None and version == model.current,
        "previous": loaded is not None and version == model.previous,
        "pinned": model.pinned and version == model.current,
        "labels": sorted(label for label, v in model.labels.items() if v == version),
        "share": round(shares.get(version, 0.0), 6),
        "engine": loaded.engine.name if loaded else "",
        "chosen": loaded.chosen if loaded else "",
    }


def _why_not(version: str, model: ModelState) -> str:
    if version in model.refused:
        return model.refused[version].reason
    if version in model.broken:
        return model.broken[version]
    if model.off or version in model.gone:
        return "unloaded"
    return "an older version" if version != model.newest else "another version is held to"
