"""What can be asked for, each as a function from one state to the next. They raise `HttpError` for mistakes."""

import math
import re
from collections.abc import Callable

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.models.shelf import Sight
from pipcook_deploy.server.models.state import STABLE, ModelState, State
from pipcook_deploy.server.models.versions import natural

LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
MOST_SHARES = 16
Edit = Callable[[State], State]


def seen(sight: Sight) -> Edit:
    """What lies there has changed."""

    def edit(state: State) -> State:
        for name in {*sight.there, *sight.broken, *state.models}:
            there, broken = sight.there.get(name, {}), sight.broken.get(name, {})
            state = state.changed(name, there=there, broken=broken)
        return state

    return edit


def load(sight: Sight, name: str, version: str | None) -> Edit:
    """See `Control.load`."""

    def edit(state: State) -> State:
        state = seen(sight)(state)
        model = _known(state, name)
        if version is None:
            refused = {v: why for v, why in model.refused.items() if v != model.newest}
            return state.changed(name, off=False, gone=(), pinned=False, refused=refused)
        _check_there(name, model, version)
        changes: dict[str, object] = {
            "off": False,
            "gone": tuple(v for v in model.gone if v != version),
            "kept": tuple(sorted({*model.kept, version}, key=natural)),
            "refused": {v: why for v, why in model.refused.items() if v != version},
        }
        if model.off:
            changes |= {"current": version, "pinned": True}
        return state.changed(name, **changes)

    return edit


def unload(name: str, version: str | None) -> Edit:
    """See `Control.unload`."""

    def edit(state: State) -> State:
        model = _served(state, name)
        if version is None:
            return state.changed(name, off=True, kept=(), pinned=False, labels={}, split={})
        if version not in model.loaded:
            has = ", ".join(model.loaded)
            raise HttpError(404, f"{name} has version {has} loaded, not {version[:50]!r}")
        labels = [label for label, v in model.labels.items() if v == version]
        if labels or version in model.shares:
            by = f"the label {labels[0]!r}" if labels else "the split"
            raise HttpError(409, f"{by} of {name} needs version {version}: change that first")
        kept = tuple(v for v in model.kept if v != version)
        return state.changed(name, gone=(*model.gone, version), kept=kept)

    return edit


def label(name: str, label: str, version: str | None) -> Edit:
    """See `Control.set_label`."""

    def edit(state: State) -> State:
        model = _served(state, name)
        if version is None:
            if label not in model.labels:
                has = ", ".join(map(repr, model.labels)) or "none"
                raise HttpError(404, f"{name} has no label {label[:100]!r}; it has {has}")
            if label in model.split:
                raise HttpError(409, f"the split of {name} needs the label {label!r}")
            labels = {key: v for key, v in model.labels.items() if key != label}
            return state.changed(name, labels=labels)
        if not LABEL.fullmatch(label) or label in model.there:
            reason = "is a version" if label in model.there else "is no label"
            raise HttpError(400, f"{label[:100]!r} {reason}: letters, digits, _ . - make one")
        _check_there(name, model, version)
        gone = tuple(v for v in model.gone if v != version)
        return state.changed(name, labels=model.labels | {label: version}, gone=gone)

    return edit


def split(name: str, weights: dict[str, float]) -> Edit:
    """See `Control.set_split`."""

    def edit(state: State) -> State:
        model = _served(state, name)
        wrong = [w for w in weights.values() if not (math.isfinite(w) and w >= 0)]
        if wrong or len(weights) > MOST_SHARES or (weights and not 0 < sum(weights.values()) < 1e9):
            raise HttpError(
                400, f"up to {MOST_SHARES} weights are numbers from 0 on, not all of them 0"
            )
        shares: dict[str, float] = {}
        for key, weight in weights.items():
            # A split holds the current version, so that it can stand there by its name.
            version = model.current if key == STABLE and key not in model.labels else key
            if version not in model.labels:
                _check_there(name, model, version)
            shares[version] = shares.get(version, 0.0) + weight
        # Versions beside which nothing is sent keep their place: 0 is a weight as well.
        gone = tuple(v for v in model.gone if v not in shares)
        return state.changed(name, split=shares, gone=gone)

    return edit


def rollback(name: str) -> Edit:
    """See `Control.rollback`."""

    def edit(state: State) -> State:
        model = _served(state, name)
        if model.split:
            return state.changed(name, split={}, pinned=True)
        if not model.previous:
            raise HttpError(
                409,
                f"{name} has no version to go back to: none served before {model.current} here; "
                f"the label {STABLE} goes to any version",
            )
        labels = dict(model.labels)
        if STABLE in labels:
            labels[STABLE] = model.previous
        return state.changed(
            name, current=model.previous, previous=model.current, pinned=True, labels=labels
        )

    return edit


def _known(state: State, name: str) -> ModelState:
    model = state.models.get(name)
    if model is not None and model.there:
        return model
    if model is not None and model.broken:
        version, why = next(iter(model.broken.items()))
        raise HttpError(400, f"{name} {version} is refused: {why}")
    has = ", ".join(repr(key) for key in state.models)
    missing = f"there is no model {name[:100]!r}"
    raise HttpError(404, f"{missing}; there is {has}" if has else missing)


def _served(state: State, name: str) -> ModelState:
    model = _known(state, name)
    if not model.loaded:
        raise HttpError(404, f"{name} is not loaded")
    return model


def _check_there(name: str, model: ModelState, version: str) -> None:
    if version in model.there:
        return
    if version in model.broken:
        raise HttpError(400, f"{name} {version} is refused: {model.broken[version]}")
    has = ", ".join(map(repr, sorted(model.there, key=natural)))
    raise HttpError(404, f"{name} has version {has}, not {version[:50]!r}")
