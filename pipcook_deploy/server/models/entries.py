"""From the state that is wanted to what the registry serves, and to the words of the log."""

import logging
from collections.abc import Mapping

from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.registry import Entry
from pipcook_deploy.server.models.state import Key, ModelState, State
from pipcook_deploy.server.observe.logs import event


def entries(state: State, held: Mapping[Key, LoadedModel]) -> dict[str, Entry]:
    """What of `state` can be served with the models that this process holds."""
    made = (_entry(name, model, held) for name, model in state.models.items())
    return {entry.name: entry for entry in made if entry.versions}


def _entry(name: str, model: ModelState, held: Mapping[Key, LoadedModel]) -> Entry:
    versions = {
        version: held[name, version, edition]
        for version, edition in model.loaded.items()
        if (name, version, edition) in held
    }
    current = model.current if model.current in versions else next(iter(versions), "")
    labels = {label: v for label, v in model.labels.items() if v in versions}
    split = {v: share for v, share in model.shares.items() if v in versions}
    previous = model.previous if model.previous in versions else ""
    return Entry(name, versions, current, previous, labels, split)


def say_changes(before: State, after: State) -> None:
    """A line of the log for each model that is served otherwise than before."""
    for name in sorted({*before.models, *after.models}):
        old = before.models.get(name, ModelState())
        new = after.models.get(name, ModelState())
        if (old.current, old.loaded, old.labels, old.split) != (
            new.current, new.loaded, new.labels, new.split,
        ):  # fmt: skip
            event(
                "model serves",
                model=name,
                version=new.current or "none",
                loaded=" ".join(new.loaded),
                labels=" ".join(f"{label}={v}" for label, v in new.labels.items()),
                split=" ".join(f"{v}={share:.3g}" for v, share in new.shares.items()),
            )


def say_refused(name: str, version: str, why: str) -> None:
    """A line of the log for a version that is there and not served."""
    event("model refused", logging.WARNING, model=name, version=version, reason=why)
