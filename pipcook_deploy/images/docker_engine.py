"""A Docker engine, through its Python SDK."""

import os
import re
import secrets
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.errors import EngineMissingError, ImageError, MissingDependencyError
from pipcook_deploy.images.archive import settle
from pipcook_deploy.images.docker_container import DockerContainer
from pipcook_deploy.images.docker_sdk import SECONDS, failures, said, talking
from pipcook_deploy.images.engine import (
    TMPFS,
    Build,
    Container,
    Engine,
    Image,
    Progress,
    RunOptions,
)
from pipcook_deploy.images.failures import MOST_LINES, failed

STEP = re.compile(r"^Step (\d+)/(\d+) : (.*)")
CONNECTING = 10
LONGEST_STEP = 100
PUSH_HINT = (
    "log in with: docker login REGISTRY, and name a registry that you may push to with --tag"
)
START_ENGINE = (
    "start Docker, or set DOCKER_HOST to where it listens; what can be had without: --no-build"
)


class DockerEngine(Engine):
    """Builds by the engine's own (classic) builder; the image is then written again without the time of day."""

    name: ClassVar[str] = "docker"

    def __init__(self, client: Any) -> None:
        self._client = client
        self._direct = self._is_direct()

    @classmethod
    def connect(cls) -> "DockerEngine":
        """Where DOCKER_HOST says, or the usual socket."""
        return cls(cls._client_that_answers())

    @staticmethod
    def _client_that_answers() -> Any:
        try:
            import docker
        except ImportError:
            raise MissingDependencyError(
                "talking to Docker needs its Python SDK",
                "run: pip install 'pipcook-deploy[docker]'",
            ) from None
        try:
            client = docker.from_env(timeout=CONNECTING)
            client.ping()
        except failures() as error:
            raise _no_answer(said(error)) from error
        except ValueError as error:  # DOCKER_HOST is no address
            raise _no_answer(str(error)) from error
        client.api.timeout = SECONDS
        return client

    def _is_direct(self) -> bool:
        """Whether containers' own addresses are of this machine: elsewhere the same address may be another's."""
        if not sys.platform.startswith("linux") or not self._client.api.base_url.startswith(
            "http+docker"
        ):
            return False
        with talking("what it is"):
            options = self._client.info().get("SecurityOptions") or []
        return not any("rootless" in option for option in options)

    def describe(self) -> str:
        with talking("its version"):
            return f"docker {self._client.version()['Version']}"

    def build(self, build: Build, progress: Progress) -> Image:
        with talking("the build"):
            lines = self._client.api.build(
                path=str(build.context),
                tag=build.tag,
                rm=True,
                forcerm=True,
                nocache=not build.cache,
                buildargs={"SOURCE_DATE_EPOCH": str(build.epoch)},
                decode=True,
            )
            follow(lines, progress)
            return self._settled(build, progress)

    def image(self, reference: str) -> Image | None:
        import docker

        with talking("an image"):
            try:
                attributes = self._client.api.inspect_image(reference)
            except docker.errors.ImageNotFound:
                return None
            return Image(attributes["Id"], (), attributes["Config"].get("Labels") or {})

    def tag(self, image: Image, reference: str) -> None:
        repository, _, name = reference.rpartition(":")
        with talking(f"the tag {reference}"):
            self._client.api.tag(image.id, repository, name)

    def untag(self, reference: str) -> None:
        import docker

        with talking(f"the tag {reference}"), suppress(docker.errors.ImageNotFound):
            # noprune: the steps that it was built of are the next build's cache.
            self._client.api.remove_image(reference, noprune=True)

    def start(self, image: Image, options: RunOptions) -> Container:
        with self._named() as name, talking("the start of a container"):
            container = self._client.containers.create(
                image.id,
                name=name,
                command=list(options.arguments) or None,
                detach=True,
                environment=dict(options.environment),
                user=options.user,
                ports={f"{options.port}/tcp": ("127.0.0.1", options.host_port or None)},
                read_only=True,
                tmpfs=TMPFS if options.tmpfs else None,
                mem_limit=options.memory,
                memswap_limit=options.memory,
                pids_limit=options.pids,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            )
            container.start()
            return DockerContainer(container, options.port, direct=self._direct)

    def read(self, image: Image, path: str) -> bytes:
        with self._named() as name, talking(path):
            container = self._client.containers.create(image.id, name=name)
            stream, _ = container.get_archive(path)
            data = BytesIO(b"".join(stream))
            container.remove(force=True, v=True)
        with tarfile.open(fileobj=data) as archive:
            file = archive.extractfile(archive.getmembers()[0])
            if file is None:
                raise ImageError(f"{path} of the image is not a file")
            return file.read()

    @contextmanager
    def _named(self) -> Iterator[str]:
        """A name for a container; if the block fails, or is interrupted, there is no such container afterwards."""
        import docker

        name = f"pipcook-deploy-boot-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            yield name
        except BaseException:
            with suppress(docker.errors.DockerException, OSError):
                self._client.api.remove_container(name, force=True, v=True)
            raise

    def push(self, reference: str, progress: Progress) -> str:
        repository, _, tag = reference.rpartition(":")
        digest = reason = ""
        with talking(f"the push of {reference}"):
            for row in self._client.api.push(repository, tag, stream=True, decode=True):
                reason = str(row.get("error", reason))
                progress(f"{row.get('status', '')} {row.get('id', '')}".strip(), 0, None)
                digest = (row.get("aux") or {}).get("Digest", digest)
            if reason:
                raise ImageError(f"{reference} cannot be pushed: {reason}", PUSH_HINT)
            # An engine with containerd's store says none: there the image itself has it.
            known = self._client.api.inspect_image(reference).get("RepoDigests") or []
        own = (name.rpartition("@") for name in known)
        digest = digest or next((end for place, _, end in own if place == repository), "")
        if not digest:
            raise ImageError(f"{reference}: the registry has named no digest", "push it again")
        return digest

    def close(self) -> None:
        with suppress(OSError):
            self._client.close()

    def _settled(self, build: Build, progress: Progress) -> Image:
        """The image without the time that it was made at."""
        built = self._client.api.inspect_image(build.tag)["Id"]
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-image-") as scratch:
            made, settled = Path(scratch, "made.tar"), Path(scratch, "settled.tar")
            progress("reading the image", 0, None)
            self._write(build.tag, made)
            layers = settle(made, settled, build.epoch, build.tag)
            progress("storing it without the time of day", 0, None)
            with settled.open("rb") as file:
                follow(self._client.api.load_image(file), progress)
        attributes = self._client.api.inspect_image(build.tag)
        if attributes["Id"] != built:
            self._forget(built)
        return Image(attributes["Id"], layers, attributes["Config"].get("Labels") or {})

    def save(self, image: Image, path: Path) -> None:
        with talking("the copy of an image"):
            self._write(image.id, path)

    def _write(self, reference: str, path: Path) -> None:
        with path.open("wb") as file:
            for block in self._client.api.get_image(reference, chunk_size=1 << 20):
                file.write(block)

    def _forget(self, built: str) -> None:
        import docker

        # It may have another name, or be another build's.
        with suppress(docker.errors.APIError):
            self._client.api.remove_image(built, noprune=True)


def _no_answer(reason: str) -> EngineMissingError:
    return EngineMissingError(f"no Docker engine answers: {reason}", START_ENGINE)


def follow(lines: Iterator[Mapping[str, Any]], progress: Progress) -> None:
    """Pass on what a builder does. Raises `ImageError` if it says that it failed."""
    tail: list[str] = []
    done, steps = 0, None
    reason = ""
    for row in lines:  # to its end: what is left of an answer keeps its connection open
        reason = str(row.get("error", reason))
        text = str(row.get("stream", "")).strip()
        if not text:
            continue
        tail = [*tail[-MOST_LINES:], text]
        match = STEP.match(text)
        if match:
            done, steps = int(match[1]), int(match[2])
            progress(match[3][:LONGEST_STEP], done - 1, steps)
    if reason:
        raise failed(reason, tail)
