"""The ways in which a model can be run on this machine."""

from dataclasses import dataclass

from pipcook_deploy.errors import MissingDependencyError, ServerError
from pipcook_deploy.server.engines.base import Engine
from pipcook_deploy.server.engines.make import CUDA, ENGINES, installed, make_engine
from pipcook_deploy.server.served import Candidate, ServedModel
from pipcook_deploy.server.settings import Settings

HOLDS_THE_LOCK = ("litert",)
MANY_CORES, GROUP = 8, 4  # from that many cores on, streams of four threads are worth a try too


@dataclass(frozen=True)
class Option:
    """An artifact format in an engine: `streams` requests at once, each on `threads` threads.

    `apart`: in processes of its own. `only_tiny`: stops the server while it computes, so it has to be short.
    """

    engine: str
    format: str
    threads: int
    streams: int
    apart: bool = False

    @property
    def only_tiny(self) -> bool:
        """Whether the engine holds the interpreter lock."""
        return self.engine in HOLDS_THE_LOCK and not self.apart

    def __str__(self) -> str:
        streams = "1 stream" if self.streams == 1 else f"{self.streams} streams"
        apart = ", in processes of its own" if self.apart else ""
        return f"{self.engine} ({self.format}), {streams} x {_threads(self.threads)}{apart}"

    def open(self, served: ServedModel) -> tuple[Engine, Candidate]:
        """The engine, loaded, and what it runs. Raises `ServerError`."""
        candidate = next(c for c in served.candidates if c.artifact.format == self.format)
        engine = make_engine(
            candidate.artifact, self.threads, self.streams, self.engine, self.apart
        )
        return engine, candidate


def possible(served: ServedModel, settings: Settings, cores: int) -> list[list[Option]]:
    """The options that the settings leave, grouped by engine; the first of a group is the one that the others must agree with.

    Raises `ServerError` or `MissingDependencyError` if there are none.
    """
    return [
        _group(engine, candidate.artifact.format, _shapes(settings, cores))
        for engine, candidate in _engines(served, settings.engine)
    ]


def _group(engine: str, format: str, shapes: list[tuple[int, int]]) -> list[Option]:
    if engine not in HOLDS_THE_LOCK:
        return [Option(engine, format, threads, streams) for threads, streams in shapes]
    fewest = min(threads for threads, _ in shapes)
    inside = Option(engine, format, fewest, 1)
    return [inside, *(Option(engine, format, *shape, apart=True) for shape in shapes)]


def _engines(served: ServedModel, wanted: str) -> list[tuple[str, Candidate]]:
    pairs = [
        (engine, candidate)
        for candidate in served.candidates
        for engine in ENGINES.get(candidate.artifact.model_format, ("onnxruntime",))
    ]
    if wanted == "auto":
        pairs = [pair for pair in pairs if pair[0] != CUDA]
        ready = [pair for pair in pairs if installed(pair[0])]
        if not ready:
            needs = " or ".join(dict.fromkeys(engine for engine, _ in pairs))
            raise MissingDependencyError(
                f"nothing that runs {served.spec.name} is installed: it needs {needs}",
                "run: pip install pipcook-deploy",
            )
        return ready
    if chosen := [pair for pair in pairs if pair[0] == wanted]:
        return chosen[:1]
    # The default stands for what runs the format best; another engine was asked for by name.
    if wanted == "onnxruntime":
        return pairs[:1]
    has = ", ".join(candidate.artifact.format for candidate in served.candidates)
    format = next(key for key, engines in ENGINES.items() if wanted in engines)
    raise ServerError(
        f"{wanted} runs {format} artifacts; {served.spec.name} has {has}",
        f"make one: pipcook-deploy convert MODEL --to {format} --out DIR",
    )


def _shapes(settings: Settings, cores: int) -> list[tuple[int, int]]:
    """Threads and streams that make sense on `cores` cores."""
    threads, streams = settings.threads, settings.streams
    if threads and streams:
        return [(threads, streams)]
    if threads:
        found = [(threads, 1), (threads, max(1, cores // threads))]
    elif streams:
        found = [(max(1, cores // streams), streams)] + [(1, 1)] * (streams == 1)
    else:
        found = [(cores, 1), (1, cores)]
        if cores >= MANY_CORES:
            found.insert(1, (GROUP, cores // GROUP))
    return list(dict.fromkeys(found))


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
