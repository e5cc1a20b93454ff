"""The interface of what runs a model, for verification."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from pipcook_deploy.artifact import Artifact
from pipcook_deploy.errors import UnsupportedRuntimeError
from pipcook_deploy.model import Model

Tensors = dict[str, Any]  # name in the spec -> numpy array, batch axis first


class Runtime(ABC):
    """Runs models of one or more formats in the runtime that runs them in production."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    heavy: ClassVar[bool] = False  # needs TensorFlow in the process
    additional: ClassVar[bool] = False  # checks a format beside the runtime that judges it
    most_elements: int | None = None  # input elements it is given at most: bounds a slow runtime

    @property
    def label(self) -> str:
        """Name of this variant: "tfjs-wasm"."""
        return self.name

    @classmethod
    def installed(cls) -> bool:
        """Whether its package is there; only an additional runtime may lack it."""
        return True

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

    def session(self, artifact: Artifact, threads: int) -> Callable[[Tensors], Tensors]:
        """Open an artifact once, to be called often: what a benchmark times.

        The answer takes and gives what `run_artifact` does, all samples at once, on `threads` threads.
        Raises `UnsupportedRuntimeError` where a runtime has no such way.
        """
        raise UnsupportedRuntimeError(
            f"{self.label}: keeps no model open between calls", "time it by a script of its own"
        )
