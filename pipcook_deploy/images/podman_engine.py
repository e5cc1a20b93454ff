"""Podman, through its command line."""

import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.errors import EngineMissingError, ImageError
from pipcook_deploy.images.engine import TMPFS, Container, Image, RunOptions
from pipcook_deploy.images.failures import TAKEN, has_ended, taken
from pipcook_deploy.images.reachable import address
from pipcook_deploy.images.store_engine import SECONDS, StoreEngine, answer
from pipcook_deploy.run import Ended, outcome

OLDEST = 4  # the major version that has all that is used here
NO_HEALTH_CHECK = 125
ENDED = ("stopped", "exited")
POLL_SECONDS = 0.05
# Networks of containers without root are not of this machine.
ROOT = sys.platform.startswith("linux") and os.geteuid() == 0


class PodmanEngine(StoreEngine):
    """Builds and runs by podman, with root's rights or without."""

    name: ClassVar[str] = "podman"
    program: ClassVar[str] = "podman"
    # The steps that an image was built of are the next build's cache.
    REMOVE: ClassVar[tuple[str, ...]] = ("rmi", "--no-prune")
    MAKE_ROOM: ClassVar[str] = "podman system prune"

    @classmethod
    def _answer(cls, path: str) -> str:
        about = json.loads(answer(path, "info", "--format", "json"))
        version = str(about["version"]["Version"])
        if int(version.partition(".")[0]) < OLDEST:
            raise EngineMissingError(
                f"podman {version} is too old", f"install podman {OLDEST} or newer"
            )
        return version

    def _described(self, text: str) -> Image:
        (found,) = json.loads(text)
        return Image(f"sha256:{found['Id']}", (), found.get("Labels") or {})

    def start(self, image: Image, options: RunOptions) -> Container:
        container = PodmanContainer(self._path, _new_name(), options.port)
        what = [image.id.removeprefix("sha256:"), *options.arguments]
        try:
            self._ask("create", "--name", container.name, *_locked_down(options), *what)
            ended = self._outcome("start", container.name)
            if ended.code != 0:
                refused = self._refused("the start of a container", ended)
                raise taken(refused.message) if TAKEN.search(ended.errors) else refused
        except BaseException:
            container.remove()
            raise
        return container

    def read(self, image: Image, path: str) -> bytes:
        name = _new_name()
        self._ask("create", "--pull", "never", "--name", name, image.id.removeprefix("sha256:"))
        try:
            with tempfile.TemporaryDirectory(prefix="pipcook-deploy-read-") as scratch:
                file = Path(scratch, "file")
                self._ask("cp", f"{name}:{path}", str(file))
                # A link would be followed into this machine's files.
                if file.is_symlink() or not file.is_file():
                    raise ImageError(f"{path} of the image is not a file")
                return file.read_bytes()
        finally:
            self._outcome("rm", "--force", "--volumes", name)


class PodmanContainer(Container):
    """A container of podman."""

    def __init__(self, path: str, name: str, port: int) -> None:
        self._path = path
        self._port = port
        self.name = name

    def address(self) -> tuple[str, int, bool]:
        found = address(self._state("NetworkSettings"), self._port, direct=ROOT)
        if found is None:
            raise has_ended(self.name, self.logs())
        return found

    def running(self) -> bool:
        return self._state("State").get("Status") == "running"

    def health(self) -> str:
        # Asked for: where systemd does not run, podman makes no checks by itself.
        code = self._outcome("healthcheck", "run", self.name).code
        if code == NO_HEALTH_CHECK:
            return ""
        state = self._state("State")
        said = (state.get("Health") or state.get("Healthcheck") or {}).get("Status")
        return "healthy" if code == 0 else str(said or "unhealthy")

    def logs(self) -> str:
        return self._outcome("logs", self.name).output

    def execute(self, *command: str) -> tuple[int, str]:
        ended = self._outcome("exec", self.name, *command)
        return ended.code, ended.output

    def signal(self, name: str) -> None:
        ended = self._outcome("kill", "--signal", name, self.name)
        if ended.code != 0:
            raise ImageError(f"podman did not send {name}: {ended.output.strip()}")

    def wait(self, seconds: float) -> int | None:
        # `podman wait` waits for its own clean-up, which may never come; what has stopped has its exit code before.
        end = time.monotonic() + seconds
        while True:
            state = self._state("State")
            if state.get("Status") in ENDED:
                return int(state["ExitCode"])
            if time.monotonic() > end:
                return None
            time.sleep(POLL_SECONDS)

    def remove(self) -> None:
        self._outcome("rm", "--force", "--ignore", "--volumes", "--time", "0", self.name)

    def _state(self, part: str) -> dict[str, Any]:
        command = [self._path, "container", "inspect", self.name]
        ended = outcome(command, timeout=SECONDS, failure=ImageError, apart=True)
        if ended.code != 0:
            raise ImageError(f"podman knows nothing of {self.name}: {ended.errors.strip()}")
        found: dict[str, Any] = json.loads(ended.output)[0][part]
        return found

    def _outcome(self, *arguments: str) -> Ended:
        return outcome([self._path, *arguments], timeout=SECONDS, failure=ImageError)


def _locked_down(options: RunOptions) -> list[str]:
    """As a Docker engine is asked to run it; podman adds some comforts by default, which are refused."""
    mount, how = next(iter(TMPFS.items()))
    port = options.host_port or ""
    found = [
        "--pull=never",
        "--read-only",
        "--read-only-tmpfs=false",
        *([f"--tmpfs={mount}:{how},noexec,nosuid,nodev"] if options.tmpfs else []),
        f"--memory={options.memory}",
        f"--memory-swap={options.memory}",
        f"--pids-limit={options.pids}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--http-proxy=false",
        "--log-driver=k8s-file",
        f"--publish=127.0.0.1:{port}:{options.port}",
    ]
    found += [f"--env={name}={value}" for name, value in options.environment.items()]
    return found + ([f"--user={options.user}"] if options.user else [])


def _new_name() -> str:
    return f"pipcook-deploy-boot-{os.getpid()}-{secrets.token_hex(4)}"
