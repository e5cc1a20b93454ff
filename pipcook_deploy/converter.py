"""The interface of a converter."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

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
    # Whether it writes its own float32 result again with another precision, which saves the way from the source.
    rewrites: ClassVar[bool] = False

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

    # ---- what a search inside an accuracy budget asks

    def uncompressed(self) -> "Converter":
        """The same, writing every weight as float32."""
        return self

    def candidates(self) -> "tuple[Converter, ...]":
        """What a search tries, the smallest result first, float32 last.

        A precision that the user chose is the only one.
        """
        return (self,)

    def slowness(self) -> int:
        """Which of two candidates of about the same size is the better one: the one with less of it."""
        return 0

    def without(self, parts: Sequence[str]) -> "Converter | None":
        """The same with these parts left in float32; None if it knows no parts.

        Parts are named as `damage_call` does.
        """
        return None

    def damage_call(self) -> str | None:
        """The worker function ("module:function") that tells how much each part suffers alone.

        It takes `path` (the float32 artifact's file), `inputs` (a folder of tensors) and `samples`, and returns
        {part: damage}.
        """
        return None

    def damage_options(self) -> dict[str, Any]:
        """What `damage_call` takes besides, from these options."""
        return {}

    def parts_call(self) -> str | None:
        """The worker function that tells what each part would cost and save in each precision.

        It takes what `damage_call` does; `mixed` makes candidates of what it returns.
        """
        return None

    def mixed(self, parts: Any) -> "tuple[Converter, ...]":
        """Candidates with a precision for each part, from the result of `parts_call`."""
        return ()

    @abstractmethod
    def convert(self, model: Model, into: Path) -> Artifact:
        """Write below `into`, an existing empty folder, and nowhere else.

        Raises `ConversionError` when the model cannot be had in this format, saying why.
        """
