"""What a server is told to do: plain data, that worker processes can be handed."""

from dataclasses import dataclass, field
from pathlib import Path

from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings


@dataclass(frozen=True)
class Job:
    """What to serve and where. `shared` is the folder of the workers, where there are several."""

    given: tuple[ServedModel, ...]
    repository: Path | None = None
    host: str = "127.0.0.1"
    port: int = 9091
    settings: Settings = field(default_factory=Settings)
    shared: Path | None = None
    number: int = 0  # of this worker

    @property
    def url(self) -> str:
        """Where clients find it."""
        scheme = "https" if self.settings.tls_cert else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"
