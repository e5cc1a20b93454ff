"""A Docker engine whose images are built by BuildKit, through the docker command's plugin buildx."""

import os
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.errors import EngineMissingError, ImageError
from pipcook_deploy.images.archive import layers_in
from pipcook_deploy.images.docker_engine import LONGEST_STEP, DockerEngine
from pipcook_deploy.images.docker_sdk import SECONDS, talking
from pipcook_deploy.images.engine import Build, Image, Progress
from pipcook_deploy.images.failures import failed, reason_in
from pipcook_deploy.run import follow, run

STEP = re.compile(r"^#\d+ \[(?:(?P<stage>[^\]]+) )?(?P<step>\d+)/(?P<steps>\d+)\] (?P<text>.*)")
BUILD_SECONDS = 3600.0
SOCKET = "unix:///var/run/docker.sock"  # where the SDK looks without DOCKER_HOST
OTHERWISE = "or choose another: --builder docker"


class BuildxEngine(DockerEngine):
    """Like Docker in all but the build."""

    name: ClassVar[str] = "buildx"

    def __init__(self, client: Any, program: str, version: str) -> None:
        super().__init__(client)
        self._program = program
        self._version = version

    @classmethod
    def connect(cls) -> "BuildxEngine":
        """Raises `EngineMissingError` if the engine, the docker command or its plugin is missing."""
        program = shutil.which("docker")
        if program is None:
            raise EngineMissingError(
                "buildx needs the docker command, which is not installed",
                f"install Docker's command line, {OTHERWISE}",
            )
        version = _plugin(program)
        return cls(cls._client_that_answers(), program, version)

    def describe(self) -> str:
        return f"buildx {self._version}, {super().describe()}"

    def build(self, build: Build, progress: Progress) -> Image:
        command = [
            *(self._program, "buildx", "build", "--progress=plain", "--load"),
            *("--provenance=false", "--sbom=false"),
            *("--build-arg", f"SOURCE_DATE_EPOCH={build.epoch}"),
            *(() if build.cache else ("--no-cache",)),
            *("--tag", build.tag, str(build.context)),
        ]
        # The command may have a context of its own choice: both have to talk to one engine.
        env = {
            "SOURCE_DATE_EPOCH": str(build.epoch),
            "DOCKER_HOST": os.environ.get("DOCKER_HOST") or SOCKET,
        }
        follow(
            command,
            lambda line: step(line, progress),
            env=env,
            timeout=BUILD_SECONDS,
            failure=_build_failed,
        )
        with talking("the build"):
            return self._built(build, progress)

    def _built(self, build: Build, progress: Progress) -> Image:
        attributes = self._client.api.inspect_image(build.tag)
        moment = datetime.fromtimestamp(build.epoch, UTC).isoformat().removesuffix("+00:00")
        if not str(attributes["Created"]).startswith(moment):
            return self._settled(build, progress)  # by a BuildKit of before SOURCE_DATE_EPOCH
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-image-") as scratch:
            progress("reading the image", 0, None)
            archive = Path(scratch, "image.tar")
            self._write(build.tag, archive)
            layers = layers_in(archive)
        return Image(attributes["Id"], layers, attributes["Config"].get("Labels") or {})


def step(line: str, progress: Progress) -> None:
    """Pass on what a line of BuildKit's plain progress begins."""
    match = STEP.match(line)
    if match:
        stage = f"{match['stage']}: " if match["stage"] else ""
        text = f"{stage}{match['text']}"[:LONGEST_STEP]
        progress(text, int(match["step"]) - 1, int(match["steps"]))


def _plugin(program: str) -> str:
    """The plugin's version."""
    try:
        said = run([program, "buildx", "version"], timeout=SECONDS, failure=ImageError)
    except ImageError as error:
        raise EngineMissingError(
            "the docker command has no plugin buildx",
            f"install docker-buildx-plugin (Debian: docker-buildx), {OTHERWISE}",
        ) from error
    # github.com/docker/buildx v0.13.1 COMMIT
    return next(iter(said.split()[1:]), "of no version").removeprefix("v")


def _build_failed(message: str, said: str | None) -> ImageError:
    tail = (said or "").splitlines()
    return failed(reason_in(tail, message), tail)
