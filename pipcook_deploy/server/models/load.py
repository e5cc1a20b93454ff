"""Makes a model ready: how it is best run on this machine, engine, warm-up, golden samples."""

from contextlib import suppress
from dataclasses import replace

from pipcook_deploy.errors import ServerError
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.engines.cpu import cores
from pipcook_deploy.server.errors import InferenceError
from pipcook_deploy.server.models.choice_cache import cache_key, keep, kept, one_at_a_time
from pipcook_deploy.server.models.choose import Choice, choose, opened
from pipcook_deploy.server.models.lane import Plan
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.measure import INLINE_SECONDS, MOST
from pipcook_deploy.server.models.options import Option, possible
from pipcook_deploy.server.models.samples import samples
from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings


def load(served: ServedModel, settings: Settings) -> LoadedModel:
    """Load, warm and check. Takes as long as that takes: not for the event loop's thread.

    Raises `ServerError` if no engine that the settings leave can load the artifact, or answers as was recorded.
    """
    share = max(1, cores() // settings.workers)
    options = possible(served, settings, share)
    key = cache_key(served, options)
    choice, engine = _from_before(served, options, key) or _measured(served, options, key)
    _warm(served, choice, engine)
    return LoadedModel(served.spec, engine, plan(choice, settings), settings, choice.why)


def plan(choice: Choice, settings: Settings) -> Plan:
    """What the lane does with it; `max_batch` above 1 holds for what is run in the event loop as well."""
    batch = 1
    if settings.batching == "on" and choice.batch != "impossible":
        batch = settings.max_batch
    elif settings.batching == "auto" and choice.batch == "pays":
        batch = min(settings.max_batch, MOST)  # of other sizes the bits are not known
    inline = int(choice.elements * INLINE_SECONDS / choice.seconds) if choice.tiny else 0
    return Plan(choice.seconds, inline, choice.option.streams, batch)


def _from_before(
    served: ServedModel, options: list[list[Option]], key: str
) -> tuple[Choice, Engine] | None:
    """The choice of an earlier start, if there was one and it still answers as it should."""
    stored = kept(key)
    if stored is None:
        return None
    with suppress(ValueError, TypeError, LookupError):
        choice = Choice.from_json(stored)
        if any(_offered(choice.option, group) for group in options):
            try:
                return choice, opened(served, choice.option)
            except ServerError:
                if len(options) == 1:
                    raise
    return None


def _measured(served: ServedModel, options: list[list[Option]], key: str) -> tuple[Choice, Engine]:
    """Choose, and keep the choice. Another process may have done so in the meantime."""
    with one_at_a_time():
        if found := _from_before(served, options, key):
            return found
        choice, engine = choose(served, options)
        if choice.seconds:
            keep(key, choice.to_json())
        return choice, engine


def _offered(option: Option, group: list[Option]) -> bool:
    """A tiny model is run on one stream whatever was offered."""
    return any(
        replace(offered, streams=option.streams) == option
        and option.streams in (1, offered.streams)
        for offered in group
    )


def _warm(served: ServedModel, choice: Choice, engine: Engine) -> None:
    """Some engines make ready for single samples and for batches when they first come."""
    candidate = next(c for c in served.candidates if c.artifact.format == choice.option.format)
    with suppress(InferenceError):
        if candidate.golden is None:
            engine.run(samples(candidate, 1))
        if choice.tiny:  # runs in the event loop, which must not wait for it
            engine.run(samples(candidate, 2))
