"""Buildah, which builds where nothing else may: without a daemon, and without namespaces of its own.

It runs nothing. Podman has the same store: where it is, it boots what buildah has built.
"""

import json
import tempfile
from pathlib import Path
from typing import ClassVar

from pipcook_deploy.errors import EngineMissingError, ImageError
from pipcook_deploy.images.archive import file_in
from pipcook_deploy.images.engine import Container, Image, RunOptions
from pipcook_deploy.images.podman_engine import PodmanEngine
from pipcook_deploy.images.store_engine import StoreEngine, answer


class BuildahEngine(StoreEngine):
    """Builds by buildah in a chroot; runs by podman, if that is there."""

    name: ClassVar[str] = "buildah"
    program: ClassVar[str] = "buildah"
    BUILD: ClassVar[tuple[str, ...]] = ("--isolation", "chroot", "--network", "host")
    MAKE_ROOM: ClassVar[str] = "buildah rmi --prune"

    def __init__(self, path: str, version: str) -> None:
        super().__init__(path, version)
        try:
            self._podman: PodmanEngine | None = PodmanEngine.connect()
        except EngineMissingError:
            self._podman = None
        self.runs = self._podman is not None

    @classmethod
    def _answer(cls, path: str) -> str:
        answer(path, "info")
        return str(json.loads(answer(path, "version", "--json"))["version"])

    def describe(self) -> str:
        return ", ".join(one for one in (super().describe(), self._runner()) if one)

    def _runner(self) -> str:
        return self._podman.describe() if self._podman else ""

    def _described(self, text: str) -> Image:
        found = json.loads(text)
        settings = (found.get("Docker") or {}).get("config") or {}
        return Image(f"sha256:{found['FromImageID']}", (), settings.get("Labels") or {})

    def start(self, image: Image, options: RunOptions) -> Container:
        if self._podman is None:
            raise ImageError("buildah runs no containers", "install podman")
        return self._podman.start(image, options)

    def read(self, image: Image, path: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="pipcook-deploy-read-") as scratch:
            archive = Path(scratch, "image.tar")
            self.save(image, archive)
            data = file_in(archive, path)
        if data is None:
            raise ImageError(f"{path} is no file of the image")
        return data
