"""The interface of what runs a model, for verification."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.model import Model

Tensors = dict[str, Any]  # name in the spec -> numpy array, batch axis first


class Runtime(ABC):
    """Runs models of one or more formats in the runtime that runs them in production."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    heavy: ClassVar[bool] = False  # needs TensorFlow in the process
    most_elements: int | None = None  # input elements it is given at most: bounds a slow runtime

    @property
    def label(self) -> str:
        """Name of this variant: "tfjs-wasm"."""
        return self.name

    @classmethod
    def variants(cls) -> tuple["Runtime", ...]:
        """Every way this runtime is run.

        The first must work; another may raise `UnsupportedRuntimeError`, which the manifest records.
        """
        return (cls(),)

    @classmethod  # noqa: B027 - few need more than Python packages
    def require(cls) -> None:
        """Raises `MissingDependencyError` when a program that it needs is not installed."""

    @abstractmethod
    def run_artifact(self, artifact: Artifact, inputs: Tensors) -> Tensors:
        """Outputs by the spec's names, for inputs by the spec's names."""

    @abstractmethod
    def run_model(self, model: Model, inputs: Tensors) -> Tensors:
        """The same for a source model: this is the truth that artifacts are compared with."""
