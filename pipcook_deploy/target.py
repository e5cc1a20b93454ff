"""The interface of a target: it packages a bundle for a place where it will run."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipcook_deploy.options import Options

if TYPE_CHECKING:
    from pipcook_deploy.bundle import Bundle
    from pipcook_deploy.images.record import ImageRecord
    from pipcook_deploy.schedule import Listener


@dataclass(frozen=True)
class Package:
    """What a target wrote, and the command that starts it."""

    target: str
    path: Path
    command: tuple[str, ...]
    image: "ImageRecord | None" = None
    notes: tuple[str, ...] = ()


class Target(Options):
    """Packages a bundle. Its fields are its options.

    `render` is pure: bundle in, file contents out. `package` writes them beside the bundle's files.
    """

    name: ClassVar[str]

    @abstractmethod
    def render(self, bundle: "Bundle") -> dict[str, str]:
        """Files to write, by relative path."""

    @abstractmethod
    def package(self, bundle: "Bundle", into: Path, listener: "Listener | None" = None) -> Package:
        """Write the package into `into`, whole or not at all; `listener` is told what takes long."""
