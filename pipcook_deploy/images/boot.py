"""The boot test: an image is started as its user will run it, asked in every way, and ended under load.

It passes only if every golden sample's answer is the one that the bundle recorded, within the artifact's tolerance.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipcook_deploy.errors import BootError, ImageError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.contracts import COMMON, Contract
from pipcook_deploy.images.drain import Load, end_under_load
from pipcook_deploy.images.engine import Container, Engine, Image, RunOptions
from pipcook_deploy.images.golden import Golden
from pipcook_deploy.images.record import BootEntry, ContractEntry
from pipcook_deploy.images.starts import Start, starts

READY_SECONDS = 60.0
POLL_SECONDS = 0.02
KILLED = 137  # 128 + SIGKILL
LOG_LINES = 20


def boot(
    engine: Engine,
    image: Image,
    golden: Golden,
    options: RunOptions,
    note: Callable[[str], None],
) -> BootEntry:
    """Start the image in every way and ask it. Raises `BootError` that says which start, what was asked, what came."""
    first, *others = starts(options)
    rows: list[ContractEntry] = []
    note(f"starting: {first.name}")
    with _running(engine, image, first) as (container, began):
        server = _ready(container, first, golden, began)
        seconds = time.monotonic() - began
        _check_health(container)
        for contract in first.contracts:
            note(f"asking: {contract.name}")
            rows.append(_judged(contract, server, golden, first.name))
        rows.append(_labels(server, golden, first.name))
        note("ending it under load")
        drain = end_under_load(container, container.address(), Load.of(golden, server))
    for start in others:
        note(f"starting: {start.name}")
        with _running(engine, image, start) as (container, began):
            server = _ready(container, start, golden, began)
            rows += [_judged(contract, server, golden, start.name) for contract in start.contracts]
    return BootEntry(
        engine=engine.describe(),
        memory=options.memory,
        seconds_to_first_answer=round(seconds, 3),
        starts=tuple(start.name for start in (first, *others)),
        contracts=tuple(rows),
        drain=drain,
    )


@contextmanager
def _running(engine: Engine, image: Image, start: Start) -> Iterator[tuple[Container, float]]:
    """A container for the time of a block; what goes wrong in it is said with its log."""
    began = time.monotonic()
    container = engine.start(image, start.options)
    try:
        yield container, began
    except (BootError, OSError) as error:
        raise BootError(f"{start.name}: {error}", _tail(container)) from error
    finally:
        container.remove()


def _check_health(container: Container) -> None:
    """The image's own HEALTHCHECK, which engines run every few seconds."""
    code, output = container.execute("python3", "-m", "pipcook_deploy.container.health")
    if code != 0:
        raise BootError(f"the health check fails (exit code {code}): {output.strip()}")


def _tail(container: Container) -> str:
    lines = container.logs().strip().splitlines()[-LOG_LINES:]
    return "the container's log ends with:\n" + "\n".join(lines) if lines else "its log is empty"


def _ready(container: Container, start: Start, golden: Golden, began: float) -> Server:
    """The server once it gives a right answer."""
    end = time.monotonic() + READY_SECONDS
    server = None
    while True:
        try:
            host, port, _ = container.address()
            server = Server(host, port)
            for path in start.ready:
                server.get(path)
            break
        except (OSError, ImageError) as error:
            if not container.running():
                raise BootError(_ended(container.wait(1.0))) from error
            if time.monotonic() > end:
                raise BootError(
                    f"the server was not ready after {READY_SECONDS:.0f} s: {error}"
                ) from error
            time.sleep(POLL_SECONDS)
    golden.check_first(COMMON[0], server)
    return server


def _ended(code: int | None) -> str:
    text = f"the server ended with exit code {code} before it answered"
    if code == KILLED:
        text += ": it was killed, as for want of memory; give it more: --set docker.memory=MIB"
    return text


def _judged(contract: Contract, server: Server, golden: Golden, start: str) -> ContractEntry:
    """All golden samples in one contract's words."""
    unfit = contract.unfit(golden.bundle.spec, golden.inputs, golden.outputs)
    if unfit:
        return ContractEntry(contract=contract.name, start=start, samples=0, skipped=unfit)
    largest = golden.judged(contract, golden.asked(contract, server))
    return ContractEntry(
        contract=contract.name, start=start, samples=golden.count, largest_difference=largest
    )


def _labels(server: Server, golden: Golden, start: str) -> ContractEntry:
    """The files that callers would send, through the server's own preprocessing."""
    name, spec = "Pipcook /predict", golden.bundle.spec
    if not spec.task.endswith("classification") or not golden.bundle.manifest.samples.encoded:
        reason = "no pictures or texts with labels"
        return ContractEntry(contract=name, start=start, samples=0, skipped=reason)
    return ContractEntry(contract=name, start=start, samples=golden.check_labels(server))
