"""The interface of a pass: a model in, a smaller or kinder one out."""

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipcook_deploy.data.split import Split
from pipcook_deploy.model import Model
from pipcook_deploy.options import Options
from pipcook_deploy.spec import Details


@dataclass(frozen=True)
class PassResult:
    """The changed model, saved below the folder that the pass was given, and what was done to it.

    `details` hold what a report shows: `engine` ("tfmot" or "own"), `sparsity` (of the kernels, over all),
    `layers` ({name: {"sparsity": .., "clusters": ..}}), `notes` (what was left alone, and why).
    """

    model: Model
    details: Details = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"model": self.model.to_json(), "details": self.details}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PassResult":
        """The inverse of `to_json`."""
        return cls(Model.from_json(data["model"]), data["details"])


class ModelPass(Options):
    """Changes a model's weights. Its fields are its options; `[[compress]] pass = "prune"` names it.

    Runs in a child process of its own: it may import what it likes, but only inside `apply`.
    """

    name: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]] = ("keras", "keras_h5")

    @abstractmethod
    def apply(self, model: Model, into: Path, train: Split | None = None) -> PassResult:
        """Write the changed model below `into`, an existing empty folder.

        `train` is what fine-tuning may learn from; without it weights are changed and not trained again.
        Raises `CompressionError` when the model cannot be had so, saying why.
        """
