"""The boot test: an image is started as its user will run it, asked in every way, and ended under load.

It passes only if every golden sample's answer is the one that the bundle recorded, within the artifact's tolerance.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.compare import Tolerance, compare_outputs, tolerance_for
from pipcook_deploy.errors import BootError, ImageError
from pipcook_deploy.images.asking import Server
from pipcook_deploy.images.contracts import (
    COMMON,
    EVENT,
    Contract,
    binary_request,
    check_label,
    vertex,
)
from pipcook_deploy.images.drain import end_under_load
from pipcook_deploy.images.engine import Container, Engine, Image, RunOptions
from pipcook_deploy.images.record import BootEntry, ContractEntry, DrainEntry
from pipcook_deploy.runtime import Tensors
from pipcook_deploy.runtimes.batches import batched
from pipcook_deploy.server.models.golden import group
from pipcook_deploy.tensors import load_tensors

READY_SECONDS = 60.0
POLL_SECONDS = 0.02
KILLED = 137  # 128 + SIGKILL
LOG_LINES = 20
VERTEX = "/v1/endpoints/1/deployedModels/2"
READY = ("/ping", "/healthz", "/v2/health/live", "/v2/health/ready")
ANYONE = "1000650000:0"  # such a user as OpenShift gives each project
EVENT_PORT, CLOUD_PORT, VERTEX_PORT = 9000, 8090, 7080


@dataclass(frozen=True)
class Start:
    """One way to start the image: what a platform adds, and how it asks."""

    name: str
    options: RunOptions
    ready: tuple[str, ...]
    contracts: tuple[Contract, ...]


@dataclass(frozen=True)
class Golden:
    """The golden samples of a bundle, and what its artifact has to answer."""

    bundle: Bundle
    format: str
    inputs: Tensors
    outputs: Tensors
    tolerance: Tolerance

    @classmethod
    def of(cls, bundle: Bundle, format: str) -> "Golden":
        """Raises `BundleError`."""
        entry = bundle.entry(format)
        passed = [row.tolerance for row in entry.verification if row.status == "passed"]
        tolerance = passed[0] if passed else tolerance_for(entry.precision)
        outputs = load_tensors(bundle.expected_outputs(format))
        return cls(bundle, format, bundle.golden_inputs(), outputs, tolerance)

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.inputs.values())))

    @property
    def group(self) -> tuple[int, bool]:
        """How many samples a request holds, and whether it has to be so many."""
        return group(self.bundle.artifact(self.format))

    def asked(self, contract: Contract, server: Server, count: int | None = None) -> Tensors:
        """What the server answers to the first `count` samples, or to all."""
        inputs = {name: value[:count] for name, value in self.inputs.items()}
        spec = self.bundle.spec
        return batched(lambda part: contract.ask(server, spec, part), inputs, *self.group)


def boot(
    engine: Engine,
    image: Image,
    golden: Golden,
    options: RunOptions,
    note: Callable[[str], None],
) -> BootEntry:
    """Start the image in every way and ask it. Raises `BootError` that says which start, what was asked, what came."""
    first, *others = _starts(options)
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
        drain = _drained(container, golden)
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


def _starts(options: RunOptions) -> list[Start]:
    def run(
        port: int,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        user: str | None = None,
    ) -> RunOptions:
        host_port = options.host_port if port == options.port else 0
        return RunOptions(port, options.memory, arguments, environment or {}, user, host_port)

    routes = {
        "AIP_HTTP_PORT": str(VERTEX_PORT),
        "AIP_HEALTH_ROUTE": VERTEX,
        "AIP_PREDICT_ROUTE": f"{VERTEX}:predict",
    }
    binary = COMMON[:1]
    return [
        Start("as its user runs it", run(options.port), READY, COMMON),
        Start("SageMaker: serve", run(options.port, arguments=("serve",)), ("/ping",), COMMON[3:4]),
        Start(
            "Vertex AI: AIP_*", run(VERTEX_PORT, routes), (VERTEX,), (vertex(f"{VERTEX}:predict"),)
        ),
        Start(
            "Cloud Run: PORT, a user of no name",
            run(CLOUD_PORT, {"PORT": str(CLOUD_PORT)}, user=ANYONE),
            ("/ping",),
            binary,
        ),
        Start(
            "Function Compute: 9000",
            run(EVENT_PORT, {"PORT": str(EVENT_PORT)}),
            ("/ping",),
            (EVENT,),
        ),
    ]


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
    _first_answer(server, golden)
    return server


def _ended(code: int | None) -> str:
    text = f"the server ended with exit code {code} before it answered"
    if code == KILLED:
        text += ": it was killed, as for want of memory; give it more: --set docker.memory=MIB"
    return text


def _first_answer(server: Server, golden: Golden) -> None:
    size, _ = golden.group
    answers = golden.asked(COMMON[0], server, size)
    _compare(
        {name: value[:size] for name, value in golden.outputs.items()}, answers, golden, COMMON[0]
    )


def _judged(contract: Contract, server: Server, golden: Golden, start: str) -> ContractEntry:
    """All golden samples in one contract's words."""
    unfit = contract.unfit(golden.bundle.spec, golden.inputs, golden.outputs)
    if unfit:
        return ContractEntry(contract=contract.name, start=start, samples=0, skipped=unfit)
    try:
        answers = golden.asked(contract, server)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BootError(f"{contract.name}: the answer has another form: {error!r}") from error
    largest = _compare(golden.outputs, answers, golden, contract)
    return ContractEntry(
        contract=contract.name, start=start, samples=golden.count, largest_difference=largest
    )


def _compare(expected: Tensors, answers: Tensors, golden: Golden, contract: Contract) -> float:
    rows = compare_outputs(expected, answers, golden.tolerance)
    wrong = [row for row in rows if not row.passed]
    if wrong:
        said = "; ".join(
            f"output {row.name!r} of sample {row.worst_sample} {row.reason}" for row in wrong
        )
        raise BootError(f"{contract.name}: other answers than the bundle recorded: {said}")
    return max((row.max_abs or 0.0 for row in rows), default=0.0)


def _labels(server: Server, golden: Golden, start: str) -> ContractEntry:
    """The files that callers would send, through the server's own preprocessing."""
    name, spec = "Pipcook /predict", golden.bundle.spec
    files = golden.bundle.manifest.samples.encoded
    if not spec.task.endswith("classification") or not files:
        return ContractEntry(
            contract=name, start=start, samples=0, skipped="no pictures or texts with labels"
        )
    scores = golden.outputs[spec.outputs[0].name]
    for number, file in enumerate(files):
        content = (golden.bundle.path / "samples" / "encoded" / file).read_bytes()
        check_label(server, content, scores[number], spec.labels)
    return ContractEntry(contract=name, start=start, samples=len(files))


def _drained(container: Container, golden: Golden) -> DrainEntry:
    size, _ = golden.group
    rows = {name: value[:size] for name, value in golden.inputs.items()}
    request = binary_request(golden.bundle.spec, rows)
    return end_under_load(container, container.address(), request)
