"""A container of a Docker engine, through its Python SDK."""

from contextlib import suppress
from typing import Any

from pipcook_deploy.images.docker_sdk import SECONDS, talking
from pipcook_deploy.images.engine import Container
from pipcook_deploy.images.failures import has_ended
from pipcook_deploy.images.reachable import address


class DockerContainer(Container):
    """A container of a Docker engine."""

    def __init__(self, container: Any, port: int, *, direct: bool) -> None:
        self._direct = direct
        self._container = container
        self._port = port
        self.name = container.name

    def address(self) -> tuple[str, int, bool]:
        with talking("the container's address"):
            self._container.reload()
            network = self._container.attrs["NetworkSettings"]
        found = address(network, self._port, direct=self._direct)
        if found is None:
            raise has_ended(self.name, self.logs())
        return found

    def running(self) -> bool:
        return self._state().get("Status") == "running"

    def health(self) -> str:
        return str((self._state().get("Health") or {}).get("Status", ""))

    def logs(self) -> str:
        with talking("the container's log"):
            text: bytes = self._container.logs()
        return text.decode("utf-8", "replace")

    def execute(self, *command: str) -> tuple[int, str]:
        with talking("a program in the container"):
            code, output = self._container.exec_run(list(command))
        return int(code), output.decode("utf-8", "replace")

    def signal(self, name: str) -> None:
        with talking(f"{name} for the container"):
            self._container.kill(signal=name)

    def wait(self, seconds: float) -> int | None:
        import requests

        with talking("the container's end"):
            try:
                return int(self._container.wait(timeout=seconds)["StatusCode"])
            except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
                # Which of the two it is depends on how the engine is reached.
                if self.running():
                    return None
                return int(self._container.wait(timeout=SECONDS)["StatusCode"])

    def remove(self) -> None:
        import docker

        with talking("the removal of a container"), suppress(docker.errors.NotFound):
            self._container.remove(force=True, v=True)

    def _state(self) -> dict[str, Any]:
        with talking("the container's state"):
            self._container.reload()
        found: dict[str, Any] = self._container.attrs["State"]
        return found
