"""Which container engine builds: the one that is named, or the first that answers."""

from pipcook_deploy.errors import EngineMissingError, MissingDependencyError
from pipcook_deploy.images.buildah_engine import BuildahEngine
from pipcook_deploy.images.buildx_engine import BuildxEngine
from pipcook_deploy.images.docker_engine import DockerEngine
from pipcook_deploy.images.engine import Engine
from pipcook_deploy.images.podman_engine import PodmanEngine

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (DockerEngine, BuildxEngine, PodmanEngine, BuildahEngine)
}
AUTO = "auto"
BY_ITSELF = ("docker", "podman")


def connect(builder: str) -> Engine:
    """Raises `EngineMissingError` saying why each does not answer."""
    if builder != AUTO:
        return ENGINES[builder].connect()
    reasons: list[MissingDependencyError] = []
    for name in BY_ITSELF:
        try:
            return ENGINES[name].connect()
        except MissingDependencyError as error:
            reasons.append(error)
    raise EngineMissingError("\n".join(error.message for error in reasons), reasons[0].hint)
