"""What a request of the Open Inference Protocol says, once it has been read."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipcook_deploy.runtime import Tensors
from pipcook_deploy.server.errors import HttpError
from pipcook_deploy.server.tensors.datatypes import array_type
from pipcook_deploy.server.tensors.raw import from_raw
from pipcook_deploy.spec import TensorSpec


@dataclass(slots=True)
class Message:
    """`outputs`: the wanted ones, and whether each is to be binary. `timeout`: seconds, 0 for none."""

    inputs: Tensors
    outputs: dict[str, bool]
    id: str | None = None
    timeout: float = 0.0


@dataclass(slots=True)
class Place:
    """Where the bytes of one input are: `start` counts from the end of the JSON."""

    tensor: TensorSpec
    shape: tuple[int, ...]
    start: int
    size: int
    _dtype: Any = field(init=False)  # None for what is more than a view of the bytes
    _count: int = field(init=False)

    def __post_init__(self) -> None:
        plain = self.tensor.dtype not in ("string", "bool")
        self._dtype = array_type(self.tensor.dtype) if plain else None
        self._count = math.prod(self.shape)
        if plain and self._count * self._dtype.itemsize != self.size:
            self._dtype = None  # `from_raw` says what is wrong

    def array(self, body: bytes, begin: int) -> Any:
        """The input; the JSON ends at `begin`."""
        begin += self.start
        if self._dtype is None or begin % self._dtype.alignment:
            return from_raw(memoryview(body)[begin : begin + self.size], self.tensor, self.shape)
        return np.frombuffer(body, self._dtype, self._count, begin).reshape(self.shape)


@dataclass(slots=True)
class BinaryHead:
    """The JSON of a binary request: `values` are inputs that came as JSON, `places` those that follow it."""

    names: tuple[str, ...]
    values: Tensors
    places: tuple[Place, ...]
    size: int
    said: Message

    def message(self, body: bytes, begin: int) -> Message:
        """With the tensors of this body. Raises 400 if it has fewer or more bytes than was announced."""
        if len(body) - begin != self.size:
            raise HttpError(
                400, f"{self.size} bytes of tensors announced, {len(body) - begin} are there"
            )
        inputs = {place.tensor.name: place.array(body, begin) for place in self.places}
        if len(self.names) > 1:
            inputs |= self.values
            inputs = {name: inputs[name] for name in self.names}
        elif self.values:
            inputs = self.values
        said = self.said
        return Message(inputs, said.outputs, said.id, said.timeout)
