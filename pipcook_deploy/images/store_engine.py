"""What podman and buildah do alike: they share a store of images and the words for it.

Buildah notes its working containers in what it builds: an image is written again without them, and without the time.
"""

import re
import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from pipcook_deploy.errors import EngineMissingError, ImageError
from pipcook_deploy.images.archive import settle
from pipcook_deploy.images.engine import Build, Engine, Image, Progress
from pipcook_deploy.images.failures import failed, passing_through, reason_in
from pipcook_deploy.run import Ended, follow, outcome, run

STEP = re.compile(r"^(?:\[(\d+)/(\d+)\] )?STEP (\d+)/(\d+): (.*)")
SECONDS = 120.0  # for any one answer
BUILD_SECONDS = 3600.0
COPY_SECONDS = 900.0  # for an image, to a file or a registry
LONGEST_STEP = 100
UNKNOWN = re.compile("image not known|no such image", re.IGNORECASE)
NO_NAME = "name one that you may push to with --tag REGISTRY/NAME"


class StoreEngine(Engine):
    """A program that builds into the store of images."""

    program: ClassVar[str]
    BUILD: ClassVar[tuple[str, ...]] = ()
    REMOVE: ClassVar[tuple[str, ...]] = ("rmi",)
    MAKE_ROOM: ClassVar[str]

    def __init__(self, path: str, version: str) -> None:
        self._path = path
        self._version = version

    @classmethod
    def connect(cls) -> Self:
        path = shutil.which(cls.program)
        if path is None:
            raise EngineMissingError(
                f"{cls.program} is not installed",
                "install it, or choose another: --builder docker; what can be had without: --no-build",
            )
        hint = f"see why: {cls.program} info"
        try:
            return cls(path, cls._answer(path))
        except ImageError as error:
            reason = reason_in((error.hint or "").splitlines(), error.message)
            raise EngineMissingError(f"{cls.program} does not answer: {reason}", hint) from error
        except (ValueError, LookupError, TypeError) as error:
            raise EngineMissingError(
                f"{cls.program} says something else of itself than is known: {error!r}", hint
            ) from error

    @classmethod
    @abstractmethod
    def _answer(cls, path: str) -> str:
        """Its version. Raises `ImageError`, or whatever comes of reading another answer."""

    @abstractmethod
    def _described(self, text: str) -> Image:
        """What it says of an image, without layers."""

    def describe(self) -> str:
        return f"{self.program} {self._version}"

    def build(self, build: Build, progress: Progress) -> Image:
        made = f"{qualified(build.tag)}-made"
        arguments = [
            *("build", *self.BUILD, "--format", "docker", "--layers", "--force-rm"),
            *("--timestamp", str(build.epoch)),
            *("--build-arg", f"SOURCE_DATE_EPOCH={build.epoch}"),
            *(() if build.cache else ("--no-cache",)),
            *("--tag", made, str(build.context)),
        ]
        try:
            follow(
                [self._path, *arguments],
                lambda line: step(line, progress),
                timeout=BUILD_SECONDS,
                failure=self._build_failed,
            )
            return self._settled(made, build, progress)
        finally:
            self.untag(made)

    def image(self, reference: str) -> Image | None:
        ended = self._outcome("inspect", "--type", "image", qualified(reference))
        if ended.code == 0:
            return self._described(ended.output)
        if UNKNOWN.search(ended.errors):
            return None
        raise self._refused(f"look at {reference}", ended)

    def tag(self, image: Image, reference: str) -> None:
        self._ask("tag", image.id.removeprefix("sha256:"), qualified(reference))

    def untag(self, reference: str) -> None:
        ended = self._outcome(*self.REMOVE, qualified(reference))
        if ended.code != 0 and not UNKNOWN.search(ended.errors):
            raise self._refused(f"remove {reference}", ended)

    def push(self, reference: str, progress: Progress) -> str:
        if qualified(reference) != reference or reference.startswith("localhost/"):
            raise ImageError(f"{reference} names no registry", NO_NAME)
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-push-") as scratch:
            file = Path(scratch, "digest")
            follow(
                [self._path, "push", "--digestfile", file, reference],
                lambda line: progress(line[:LONGEST_STEP], 0, None),
                timeout=COPY_SECONDS,
                failure=lambda message, hint: self._push_failed(reference, message, hint),
            )
            return file.read_text().strip()

    def close(self) -> None:
        """Nothing is held."""

    def _settled(self, name: str, build: Build, progress: Progress) -> Image:
        """The image as if it had been made at the epoch, by no one."""
        with (
            passing_through(),
            tempfile.TemporaryDirectory(prefix="pipcook-deploy-image-") as scratch,
        ):
            made, settled = Path(scratch, "made.tar"), Path(scratch, "settled.tar")
            progress("reading the image", 0, None)
            self.save(self._found(name), made)
            layers = settle(made, settled, build.epoch, qualified(build.tag))
            made.unlink()
            progress("storing it without the time of day", 0, None)
            self._ask("pull", "--quiet", f"docker-archive:{settled}", seconds=COPY_SECONDS)
        found = self._found(build.tag)
        return Image(found.id, layers, found.labels)

    def _found(self, reference: str) -> Image:
        found = self.image(reference)
        if found is None:
            raise ImageError(f"{self.program} has no {reference} any more", "build it again")
        return found

    def save(self, image: Image, path: Path) -> None:
        name = image.id.removeprefix("sha256:")
        self._ask("push", "--quiet", name, f"docker-archive:{path}", seconds=COPY_SECONDS)

    def _ask(self, *arguments: str, seconds: float = SECONDS) -> str:
        """What it answers, without what it says beside that. Raises `ImageError`."""
        ended = self._outcome(*arguments, seconds=seconds)
        if ended.code != 0:
            raise self._refused(arguments[0], ended)
        return ended.output

    def _outcome(self, *arguments: str, seconds: float = SECONDS) -> Ended:
        command = [self._path, *arguments]
        return outcome(command, timeout=seconds, failure=ImageError, apart=True)

    def _refused(self, what: str, ended: Ended) -> ImageError:
        reason = reason_in(ended.errors.splitlines(), f"exit code {ended.code}")
        return self._error(f"{self.program} did not do it ({what}): {reason}")

    def _error(self, message: str) -> ImageError:
        full = failed(message, [], self.MAKE_ROOM)
        hint = f"see whether it works: {self.program} info"
        return full if full.hint else ImageError(message, hint)

    def _build_failed(self, message: str, said: str | None) -> ImageError:
        tail = (said or "").splitlines()
        return failed(reason_in(tail, message), tail, self.MAKE_ROOM)

    def _push_failed(self, reference: str, message: str, said: str | None) -> ImageError:
        reason = reason_in((said or "").splitlines(), message)
        return ImageError(
            f"{reference} cannot be pushed: {reason}", f"log in with: {self.program} login REGISTRY"
        )


def answer(path: str, *words: str) -> str:
    """What a program says of itself. Raises `ImageError`."""
    return run([path, *words], timeout=SECONDS, failure=ImageError, apart=True)


def qualified(reference: str) -> str:
    """A name as the store has it: what names no registry is of this machine. An id stays as it is."""
    if reference.startswith("sha256:"):
        return reference.removeprefix("sha256:")
    first, slash, _ = reference.partition("/")
    has_registry = slash and (first == "localhost" or "." in first or ":" in first)
    return reference if has_registry else f"localhost/{reference}"


def step(line: str, progress: Progress) -> None:
    """Pass on what a line of a builder's output begins."""
    match = STEP.match(line)
    if match:
        stage = f"stage {match[1]} of {match[2]}: " if match[1] else ""
        progress(f"{stage}{match[5]}"[:LONGEST_STEP], int(match[3]) - 1, int(match[4]))
