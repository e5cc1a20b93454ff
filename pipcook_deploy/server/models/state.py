"""What is to be served, as plain data: the same in every worker, and on disk.

An edition tells two bundles of the same name and version apart: a digest of the bundle.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from pipcook_deploy.errors import ServerError
from pipcook_deploy.options import Options
from pipcook_deploy.server.models.versions import natural

STABLE = "stable"
Key = tuple[str, str, str]  # name, version, edition


class Refused(Options):
    """Why an edition of a version is not served."""

    edition: str
    reason: str


class ModelState(Options):
    """One model. `there` has the editions that can be loaded, by version; `loaded` those that are to be.

    Requests that name no version get `current`; `pinned` keeps it whatever newer version comes. `kept` and
    `gone` were loaded and unloaded by hand; `off` is a model that was unloaded as a whole. `split` is by version
    or label.
    """

    there: dict[str, str] = Field(default_factory=dict)
    broken: dict[str, str] = Field(default_factory=dict)
    refused: dict[str, Refused] = Field(default_factory=dict)
    loaded: dict[str, str] = Field(default_factory=dict)
    current: str = ""
    previous: str = ""
    pinned: bool = False
    labels: dict[str, str] = Field(default_factory=dict)
    split: dict[str, float] = Field(default_factory=dict)
    kept: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    off: bool = False

    @property
    def shares(self) -> dict[str, float]:
        """The part of the requests that each version gets, where none is named; empty without a split."""
        shares: dict[str, float] = {}
        total = sum(self.split.values())
        for key, weight in self.split.items():
            version = self.labels.get(key, key)
            shares[version] = shares.get(version, 0.0) + weight / total
        return shares

    @property
    def newest(self) -> str:
        """The newest version that is there, "" if none is."""
        return max(self.there, key=natural, default="")

    def settled(self, keep: str) -> "ModelState":
        """What follows from what is there and what was asked for: the current version, and what is loaded.

        `keep` is the setting `keep_versions`. Labels and shares of versions that are gone are gone as well.
        """
        usable = self._usable()
        labels = {label: v for label, v in self.labels.items() if v in usable}
        split = {k: w for k, w in self.split.items() if k in labels or k in usable}
        if not sum(split.values()):
            split = {}
        changed = self.model_copy(update={"labels": labels, "split": split})
        if self.off or not usable:
            return changed.model_copy(update={"loaded": {}, "current": "", "previous": ""})
        current = changed._current(usable)
        previous = self.previous if self.previous in usable else ""
        if current != self.current and self.current in usable:
            previous = self.current
        wanted = {current, *labels.values(), *changed.shares, *self.kept}
        if keep != "current":
            wanted.add(previous)
        chosen = [v for v in sorted(usable, key=natural) if keep == "all" or v in wanted]
        update = {
            "loaded": {version: usable[version] for version in chosen},
            "current": current,
            "previous": "" if previous == current else previous,
            "pinned": self.pinned and current == self.current,
        }
        return changed.model_copy(update=update)

    def _current(self, usable: Mapping[str, str]) -> str:
        held = self.pinned or bool(self.split)
        if STABLE in self.labels:
            return self.labels[STABLE]
        if held and self.current in usable:
            return self.current
        return max(usable, key=natural)

    def _usable(self) -> dict[str, str]:
        """Editions that may be served: of a version whose new edition is refused, the old one goes on."""
        usable = {v: edition for v, edition in self.there.items() if v not in self.gone}
        for version, refused in self.refused.items():
            if usable.get(version) == refused.edition:
                del usable[version]
                if self.loaded.get(version, refused.edition) != refused.edition:
                    usable[version] = self.loaded[version]
        return usable


class State(Options):
    """All models by name. `default` is the one for requests that name none; it stays while it is served."""

    models: dict[str, ModelState] = Field(default_factory=dict)
    default: str = ""

    def settled(self, keep: str) -> "State":
        """See `ModelState.settled`. Models of which nothing is there are forgotten, unless they are off."""
        settled = {name: model.settled(keep) for name, model in self.models.items()}
        kept = {n: m for n, m in sorted(settled.items()) if m.there or m.broken or m.off}
        served = [name for name, model in kept.items() if model.loaded]
        default = self.default if self.default in served else next(iter(served), "")
        return State(models=kept, default=default)

    def wanted(self) -> set[Key]:
        """All that is to be loaded."""
        models = self.models.items()
        return {(n, v, edition) for n, model in models for v, edition in model.loaded.items()}

    def changed(self, name: str, **changes: object) -> "State":
        """With another state of one model."""
        model = self.models.get(name, ModelState()).model_copy(update=changes)
        return State(models=self.models | {name: model}, default=self.default)

    def refusing(self, failed: Mapping[Key, str]) -> "State":
        """With the reasons why editions could not be loaded."""
        state = self
        for (name, version, edition), reason in failed.items():
            refused = state.models.get(name, ModelState()).refused
            more = {version: Refused(edition=edition, reason=reason)}
            state = state.changed(name, refused=refused | more)
        return state


def read_state(file: Path) -> State:
    """What was written there; nothing if there is no file. Raises `ServerError` for a damaged one."""
    try:
        return State.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return State()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is damaged"
        raise ServerError(
            f"{file}: {reason}",
            "it keeps labels, splits and unloaded versions; without the file all are as at first",
        ) from error


def write_state(file: Path, state: State) -> None:
    """Whole or not at all. Raises `OSError`."""
    text = json.dumps(state.model_dump(mode="json"), indent=1, sort_keys=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(handle)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def durable(state: State) -> State:
    """What of it outlives a server: why something was refused is found out anew."""
    models = {
        name: model.model_copy(update={"there": {}, "broken": {}, "refused": {}, "loaded": {}})
        for name, model in state.models.items()
    }
    return State(models=models, default=state.default)
