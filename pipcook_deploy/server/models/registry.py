"""The models by name, version and label. Replacing one is a single assignment in the event loop's thread."""

import random
import weakref
from dataclasses import dataclass, field

from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.state import STABLE


@dataclass
class Entry:
    """All versions of one model.

    Requests that name no version get `current`, or a version by its weight in `split`. `labels` are names of
    versions; `previous` is what `current` was before.
    """

    name: str
    versions: dict[str, LoadedModel] = field(default_factory=dict)
    current: str = ""
    previous: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    split: dict[str, float] = field(default_factory=dict)

    def pick(self) -> LoadedModel:
        """The version for a request that names none."""
        if not self.split:
            return self.versions[self.current]
        names, weights = list(self.split), list(self.split.values())
        return self.versions[random.choices(names, weights)[0]]

    def labelled(self, label: str) -> str:
        """The version of a label; `stable` is the current one until it is put on another. Raises 404."""
        if label in self.labels:
            return self.labels[label]
        if label == STABLE:
            return self.current
        has = ", ".join(map(repr, sorted({*self.labels, STABLE})))
        raise HttpError(404, f"{self.name} has no label {label[:100]!r}; it has {has}")


class Registry:
    """What is served. `default` answers where a request names no model: the only one, or the chosen one."""

    def __init__(self, default: str = "") -> None:
        self.entries: dict[str, Entry] = {}
        self.default = default
        self._chosen = default

    def add(self, model: LoadedModel) -> None:
        """Serve a version from now on, as the current one of its name."""
        entry = self.entries.setdefault(model.name, Entry(model.name))
        entry.versions[model.version] = model
        entry.previous, entry.current = entry.current, model.version
        self.default = self.default or model.name

    def replace(self, entries: dict[str, Entry], default: str) -> None:
        """Serve these from now on, and nothing else; who holds a model that is gone may still use it."""
        self.entries = entries
        self.default = self._chosen or default

    def resolve(
        self, name: str | None = None, version: str | None = None, label: str | None = None
    ) -> LoadedModel:
        """The model that a request means. Raises 404 saying what there is."""
        entry = self.entry(name)
        if label is not None:
            version = entry.labelled(label)
        if version is None:
            return entry.pick()
        if version not in entry.versions:
            has = ", ".join(map(repr, entry.versions))
            raise HttpError(404, f"{entry.name} has version {has}, not {version[:50]!r}")
        return entry.versions[version]

    def entry(self, name: str | None = None) -> Entry:
        """All versions of a model, of the default one without a name. Raises 404."""
        wanted = self.default if name is None else name
        found = self.entries.get(wanted)
        if found is not None and found.versions:
            return found
        has = ", ".join(repr(key) for key, entry in self.entries.items() if entry.versions)
        if not has and name is None:
            raise HttpError(404, "no model is loaded")
        missing = f"there is no model {wanted[:100]!r}"
        raise HttpError(404, f"{missing}; there is {has}" if has else missing)

    def models(self) -> list[LoadedModel]:
        """Every version of every model."""
        return [model for entry in self.entries.values() for model in entry.versions.values()]

    def close(self) -> None:
        """End the models' threads."""
        for model in self.models():
            model.lane.close()


def end_with(model: LoadedModel) -> None:
    """End its threads when no one holds the model any more, be it the registry or a request.

    A thread that is computing for a client that has left ends after that: there is nothing to wait for.
    """
    weakref.finalize(model, model.lane.close, False).atexit = False
