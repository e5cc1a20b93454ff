"""Changes what is served while it is served: by hand, and as the repository changes.

A change is computed as a whole new `State`. Every worker first makes ready what it needs; only if all of them
can, all switch. What was served before is let go of by then, and ends with its last request.
"""

import asyncio
import logging
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pipcook_deploy.errors import DeployError, ServerError
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.models import edits
from pipcook_deploy.server.models.described import newly_broken, rows, unavailable
from pipcook_deploy.server.models.entries import entries, say_changes, say_refused
from pipcook_deploy.server.models.load import load
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.registry import Registry, end_with
from pipcook_deploy.server.models.shelf import GIVEN, Shelf, Sight, reason
from pipcook_deploy.server.models.state import Key, ModelState, State
from pipcook_deploy.server.models.store import Store
from pipcook_deploy.server.observe.logs import event
from pipcook_deploy.server.peers import Peers
from pipcook_deploy.server.settings import Settings

Edit = Callable[[State], State]
LOAD_SECONDS = 600.0  # that another worker may take; one that hangs holds up no other
Result = TypeVar("Result")


class Control:
    """What is served. All methods are the event loop's; files are read and models loaded in a thread."""

    def __init__(
        self, registry: Registry, shelf: Shelf, store: Store, peers: Peers, settings: Settings
    ) -> None:
        self.registry = registry
        self.state = State()
        self._shelf = shelf
        self._store = store
        self._peers = peers
        self._settings = settings
        self._held: dict[Key, LoadedModel] = {}
        self._loading: dict[Key, asyncio.Task[LoadedModel]] = {}
        self._claims: dict[str, set[Key]] = {}  # by operation
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="look")
        peers.on("prepare", self._on_prepare)
        peers.on("release", self._on_release)
        peers.on("adopt", self._on_adopt)

    async def start(self) -> None:
        """Load what is to be served. Raises `DeployError` for a bundle given that cannot be, or a damaged store.

        What of the repository cannot be served is left out, and said.
        """
        shared = self._store.shared()
        if shared is not None:  # another worker has found out
            await self._adopt(shared)
            return
        self.state = self._store.kept()
        sight = await self._look()
        for name, versions in sight.there.items():
            for version in versions:
                if versions[version] == GIVEN:
                    await self._hold((name, version, GIVEN))
        await self._change(edits.seen(sight))

    async def watch(self) -> None:
        """Follow the repository, in one worker at a time, until this is cancelled."""
        if self._shelf.repository is None or not self._settings.repository_poll:
            return
        failed, known = "", None
        while True:
            await asyncio.sleep(self._settings.repository_poll)
            if not self._store.leads():
                continue
            try:
                sight = await self._look()
                if sight != known:
                    await self._change(edits.seen(sight))
                failed, known = "", sight
            except (DeployError, HttpError) as error:
                if str(error) != failed:
                    failed = str(error)
                    event("repository not followed", logging.WARNING, reason=failed)

    def close(self) -> None:
        """Let go of the threads, once they have done what they are doing."""
        self._threads.shutdown(cancel_futures=True)
        self._looking.shutdown(cancel_futures=True)

    async def load(self, name: str, version: str | None = None) -> None:
        """Load the newest version and stay with the newest, or one version beside the others.

        Raises 404 if there is none, 400 with the reason if it is refused.
        """
        sight = await self._look(hurry=True)
        edit = edits.load(sight, name, version)
        if version is not None:
            await self._change(edit, asked={(name, version)})
            return
        failed = await self._change(edit)
        newest = self.state.models[name].newest
        for (refused, version, _), why in failed.items():
            if (refused, version) == (name, newest):
                serving = self.state.models[name].current or "no version"
                raise HttpError(400, f"{name} {version} is refused: {why}; {serving} serves")

    async def unload(self, name: str, version: str | None = None) -> None:
        """Let go of a version, or of all, once their requests are answered; nothing but `load` brings them back.

        Raises 404 if it is not loaded, 409 if a label or a split needs it.
        """
        await self._change(edits.unload(name, version))

    async def set_label(self, name: str, label: str, version: str | None) -> None:
        """Name a version, which is loaded if it is not; None takes the label away.

        `stable` is what requests get that name none. Raises 400, 404, 409.
        """
        asked = set() if version is None else {(name, version)}
        await self._change(edits.label(name, label, version), asked=asked)

    async def set_split(self, name: str, weights: dict[str, float]) -> None:
        """Give each version, or label, its share of the requests that name none; none at all ends it.

        Raises 400, 404.
        """
        asked = {(name, key) for key in weights}
        await self._change(edits.split(name, weights), asked=asked)

    async def rollback(self, name: str) -> None:
        """Go back to the version before and stay with it; from a split to the current version alone.

        Raises 404, and 409 if there was no version before.
        """
        previous = self.state.models.get(name, ModelState()).previous
        await self._change(edits.rollback(name), asked={(name, previous)})

    def index(self) -> list[dict[str, Any]]:
        """Every version that is there: state, reason, labels, share, engine."""
        loading = {(name, version) for name, version, _ in self._loading}
        return rows(self.state, self.registry, loading)

    def unavailable(self) -> dict[tuple[str, str], str]:
        """Why versions that are there are not served, by name and version."""
        return unavailable(self.state)

    async def _look(self, *, hurry: bool = False) -> Sight:
        return await self._aside(self._looking, lambda: self._shelf.look(hurry=hurry))

    async def _change(
        self, edit: Edit, *, asked: Set[tuple[str, str]] = frozenset()
    ) -> dict[Key, str]:
        """Serve what `edit` makes of the state, and say what was refused on the way.

        Raises 400, and changes nothing, if that is one of the versions that were `asked` for.
        """
        operation = uuid4().hex
        ready: set[Key] = set()
        failed: dict[Key, str] = {}
        try:
            while True:
                wanted = self._edited(edit, failed)
                missing = wanted.wanted() - ready - self.state.wanted()
                if missing:
                    more = await self._prepare_everywhere(operation, missing)
                    for (name, version, _), why in more.items():
                        if (name, version) in asked:
                            raise HttpError(400, f"{name} {version} is refused: {why}")
                    failed |= more
                    ready |= missing
                elif await self._commit(edit, failed, ready):
                    return failed
        finally:
            if operation in self._claims:
                await self._peers.call_all("release", operation)
                await self._on_release(operation)

    def _edited(self, edit: Edit, failed: dict[Key, str]) -> State:
        return edit(self.state).refusing(failed).settled(self._settings.keep_versions)

    async def _commit(self, edit: Edit, failed: dict[Key, str], ready: set[Key]) -> bool:
        """Switch all workers, unless another change came between and more is needed now."""
        async with self._store.locked():
            self.state = self._store.shared() or self.state
            wanted = self._edited(edit, failed)
            if wanted.wanted() - ready - self.state.wanted():
                return False
            if wanted == self.state and self._applied(wanted):
                return True
            self._store.write(wanted)
            for name, version, why in newly_broken(self.state, wanted):
                say_refused(name, version, why)
            await self._peers.call_all("adopt", wanted.model_dump(mode="json"))
            await self._adopt(wanted)
            return True

    async def _prepare_everywhere(self, operation: str, missing: set[Key]) -> dict[Key, str]:
        payload = [operation, sorted(missing)]
        answers = await asyncio.gather(
            self._on_prepare(payload),
            self._peers.call_all("prepare", payload, seconds=LOAD_SECONDS),
        )
        failed: dict[Key, str] = {}
        for answer in (answers[0], *answers[1]):
            failed |= {(name, version, edition): why for name, version, edition, why in answer}
        for (name, version, _), why in failed.items():
            say_refused(name, version, why)
        return failed

    async def _on_prepare(self, payload: Any) -> list[tuple[str, str, str, str]]:
        """Load, and hold for an operation; what failed, with the reason."""
        operation, keys = payload
        failed = []
        for name, version, edition in keys:
            key = (name, version, edition)
            self._claims.setdefault(operation, set()).add(key)
            try:
                await self._hold(key)
            except DeployError as error:
                failed.append((*key, reason(error)))
        return failed

    async def _on_release(self, operation: Any) -> None:
        self._claims.pop(operation, None)
        self._drop()

    async def _on_adopt(self, payload: Any) -> None:
        await self._adopt(State.model_validate(payload))

    async def _adopt(self, state: State) -> None:
        """Serve this. Other workers had it all ready; what this one cannot load is left out."""
        for key in state.wanted() - self._held.keys():
            try:
                await self._hold(key)
            except DeployError as error:
                why = reason(error)
                event("model refused", logging.ERROR, model=key[0], version=key[1], reason=why)
        if state.wanted() and not state.wanted() & self._held.keys():
            raise ServerError("no model can be loaded in this process")
        before, self.state = self.state, state
        self.registry.replace(entries(state, self._held), state.default)
        say_changes(before, state)
        self._drop()

    def _applied(self, state: State) -> bool:
        served = {(m.name, m.version) for m in self.registry.models()}
        return served == {(name, version) for name, version, _ in state.wanted()}

    async def _hold(self, key: Key) -> LoadedModel:
        """Load it, once however many want it. Raises `DeployError`."""
        if key in self._held:
            return self._held[key]
        if key not in self._loading:
            work = self._aside(self._threads, lambda: self._load(key))
            self._loading[key] = asyncio.ensure_future(work)
        try:
            model = await asyncio.shield(self._loading[key])
        finally:
            self._loading.pop(key, None)
        return self._held.setdefault(key, model)

    def _load(self, key: Key) -> LoadedModel:
        model = load(self._shelf.open(*key), self._settings)
        end_with(model)
        return model

    def _drop(self) -> None:
        claimed = set().union(*self._claims.values())
        for key in self._held.keys() - self.state.wanted() - claimed:
            del self._held[key]

    async def _aside(self, threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def state_file(repository: Path | None) -> Path | None:
    """Where a repository's labels and splits are kept."""
    return None if repository is None else repository / ".serving.json"
