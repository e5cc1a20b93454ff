"""How an image is started: as its user runs it, and with what each platform adds."""

from dataclasses import dataclass

from pipcook_deploy.images.contracts import COMMON, EVENT, Contract, vertex
from pipcook_deploy.images.engine import RunOptions

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


def starts(options: RunOptions) -> list[Start]:
    """The first is the one that is ended under load."""

    def run(
        port: int,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        user: str | None = None,
        tmpfs: bool = True,
    ) -> RunOptions:
        host_port = options.host_port if port == options.port else 0
        given = environment or {}
        return RunOptions(port, options.memory, arguments, given, user, host_port, tmpfs=tmpfs)

    routes = {
        "AIP_HTTP_PORT": str(VERTEX_PORT),
        "AIP_HEALTH_ROUTE": VERTEX,
        "AIP_PREDICT_ROUTE": f"{VERTEX}:predict",
    }
    binary = COMMON[:1]
    return [
        Start("as its user runs it", run(options.port, tmpfs=False), READY, COMMON),
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
