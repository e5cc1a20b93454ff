"""The interface of a converter."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.model import Model
from pipcook_deploy.options import Options
from pipcook_deploy.spec import Details


class Converter(Options):
    """Writes a model in another format. Its fields are its options.

    Runs in a child process: it may import what it likes, but only inside `convert`.
    """

    format: ClassVar[str]  # what it writes; also its name in recipes
    accepts: ClassVar[tuple[str, ...]]  # formats it reads, the one it does best first
    intermediate: ClassVar[bool] = False  # a step of a chain only, never an artifact of a bundle

    def accepted(self) -> tuple[str, ...]:
        """Formats it reads with these options."""
        return self.accepts

    def accepted_from(self, details: Details) -> tuple[str, ...]:
        """The same, in the order that suits a source of which `Model.details` is known."""
        return self.accepted()

    def writes(self) -> str:
        """The model format of the result, as `Model.format` spells it."""
        return self.format

    def needs_tensorflow(self, source_format: str) -> bool:
        """Whether reading `source_format` takes a process with TensorFlow in it."""
        return True

    @abstractmethod
    def convert(self, model: Model, into: Path) -> Artifact:
        """Write below `into`, an existing empty folder, and nowhere else.

        Raises `ConversionError` when the model cannot be had in this format, saying why.
        """
