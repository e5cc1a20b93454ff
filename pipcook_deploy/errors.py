"""Every failure that a user can cause, each with the exit code the command line ends with.

Anything that is not a `DeployError` is a bug and keeps its traceback (exit code 1).
"""

from typing import ClassVar


class DeployError(Exception):
    """What happened, where, and what to run now.

    `message` says what and where in one line; `hint`, if any, says what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


class UsageError(DeployError):
    """The command line or the recipe asks for something that does not exist."""

    exit_code = 2


class RecipeError(UsageError):
    """All mistakes of a recipe at once, each as `file: table: key: message`."""

    def __init__(
        self,
        mistakes: list[str],
        hint: str = "correct the recipe; a new one: pipcook-deploy init MODEL",
    ) -> None:
        super().__init__("\n".join(mistakes), hint)
        self.mistakes = mistakes


class SourceError(DeployError):
    """The source is not a model that can be read, or not one that may be."""

    exit_code = 3


class UntrustedSourceError(SourceError):
    """The source carries code that loading would run."""


class ConversionError(DeployError):
    """A converter could not write its format."""

    exit_code = 4


class UnsupportedConversionError(ConversionError):
    """No chain of converters leads from the source to the format, or the model does not fit it."""


class VerificationError(DeployError):
    """An artifact does not answer like its source."""

    exit_code = 5


class UnsupportedRuntimeError(VerificationError):
    """A runtime lacks what the artifact needs (a kernel, an op): named, and never taken for a pass."""


class MissingDependencyError(DeployError):
    """A package or program that this step needs is not installed."""

    exit_code = 6


class EngineMissingError(MissingDependencyError):
    """No container engine answers."""


class BundleError(DeployError):
    """A bundle is damaged, incomplete, or of a version that this program does not read."""

    exit_code = 7


class OutputError(DeployError):
    """The result could not be written: the place is taken, read-only, or full."""

    exit_code = 8


class ServerError(DeployError):
    """The server could not start."""

    exit_code = 9


class CompressionError(DeployError):
    """A pass cannot be applied to this model, or a search cannot be run."""

    exit_code = 4


class BudgetError(DeployError):
    """No candidate keeps the accuracy budget, or the budget cannot be measured with this data."""

    exit_code = 10


class ImageError(DeployError):
    """A container image could not be built, described or pushed."""

    exit_code = 11


class BootError(ImageError):
    """An image was started and did not do what it has to do: it is not kept."""


EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "a bug in pipcook-deploy (a traceback is shown)",
    2: "usage: the command line or the recipe is wrong",
    3: "source: refused, damaged, or not a model",
    4: "conversion: a converter could not write its format, or a pass not be applied",
    5: "verification: an artifact does not answer like its source",
    6: "environment: a package or program is missing",
    7: "bundle: damaged, or not a bundle",
    8: "output: the place is taken, read-only, or full",
    9: "server: could not start",
    10: "budget: the accuracy budget is not kept, or cannot be measured",
    11: "image: could not be built or pushed, or did not pass its boot test",
    130: "interrupted (Ctrl-C)",
}
