"""The interface of what samples are read from: any of them, one at a time, in any order."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from pipcook_deploy.data.targets import TargetKind
from pipcook_deploy.errors import DeployError


class BadSampleError(DeployError):
    """One sample cannot be used. It is counted and left out, up to a limit."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Sample:
    """What one sample is made of: by input name either what a caller would send (image bytes, uint8 pixels,
    a text, a list of numbers) or the model's own tensor; and what is right, as its target kind says."""

    inputs: Mapping[str, object]
    target: Any = None


class Source(ABC):
    """Samples by number. Opening one reads no more than is needed to count and name them.

    `origin` says what it is; `notes` what was assumed. `kind` is None when nothing says what is right, and
    `unlabelled` then why.
    `parallel` says that reading waits for decoders and may be done by several threads, `prepared` that
    inputs are the model's tensors already.
    """

    origin: str
    kind: TargetKind | None
    notes: tuple[str, ...] = ()
    parallel: bool = False
    prepared: bool = False
    unlabelled: str = "no labels"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, number: int) -> Sample:
        """One sample. Raises `BadSampleError` when it cannot be read."""

    @abstractmethod
    def name(self, number: int) -> str:
        """Where a sample came from: a file, or a row of one."""

    def classes(self) -> NDArray[Any] | None:
        """The class of every sample, int64 [n], to divide evenly by; None when there are no classes."""
        return None
