"""The kernels of a live Keras model, of either generation, as one list: what passes change.

A kernel's name is its place: layers from the outside in, then the weight ("block/conv/kernel",
"both/forward_lstm/recurrent_kernel"). A model of Keras 3 and its rebuild in tf_keras give the same names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from pipcook_deploy.errors import CompressionError
from pipcook_deploy.text import numbered

Array = NDArray[Any]
Care = Literal["depthwise", "first", "last"]

KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
_MODELS = ("Functional", "Sequential", "Model")


@dataclass(frozen=True, eq=False)
class Kernel:
    """One weight matrix or filter bank.

    `kind` is the class of the layer that computes with it. `care` says why passes go easy on it: a depthwise
    kernel has few weights a channel and nothing to make up for one, the first sees the input as it is, the last
    makes the answer. Tables of an Embedding are looked up, not multiplied: they need no care.
    """

    name: str
    kind: str
    layer: Any
    variable: Any
    care: Care | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """As Keras stores it: the output axis last, except of depthwise and transposed kernels."""
        return tuple(int(size) for size in self.variable.shape)

    @property
    def size(self) -> int:
        """The number of weights."""
        total = 1
        for length in self.shape:
            total *= length
        return total

    @property
    def depthwise(self) -> bool:
        """Whether every input channel has filters of its own."""
        return _is_depthwise(self.layer, self.name.rpartition("/")[2], self.shape)

    def get(self) -> Array:
        """A copy of the values."""
        import numpy as np

        value = self.variable.numpy() if hasattr(self.variable, "numpy") else self.variable
        return np.array(value)

    def set(self, value: Array) -> None:
        """Replace the values."""
        self.variable.assign(value.astype(str(_dtype(self.variable)), copy=False))


def kernels(model: Any) -> list[Kernel]:
    """Every kernel once, in the order of the layers, nested models and wrappers included.

    Raises `CompressionError` for a model that has none.
    """
    rows: dict[int, tuple[str, Any, Any]] = {}
    for name, layer, variable in _walk(model, ""):
        rows.setdefault(id(variable), (name, layer, variable))
    if not rows:
        raise CompressionError(
            f"the model {model.name} has no kernels: there is nothing to compress"
        )
    names = numbered(name for name, _, _ in rows.values())
    found = list(zip(names, rows.values(), strict=True))
    ends = _output_layers(model)
    last = [name for name, (_, layer, _) in found if layer in ends] or [names[-1]]
    first = names[0] if _kind(found[0][1][1]) != "Embedding" else None
    return [
        Kernel(name, _kind(layer), layer, variable, _care(name, layer, variable, first, last))
        for name, (_, layer, variable) in found
    ]


def leaves(model: Any) -> Iterator[tuple[str, Any]]:
    """Path and layer of every layer that is no model and wraps none, itself included in its path."""
    for path, layer in _layers(model, ""):
        parts = list(_sub_layers(layer))
        if parts:
            yield from ((f"{path}/{part.name}", part) for part in parts)
        yield path, layer


def is_model(layer: Any) -> bool:
    """Whether a layer is itself made of layers that Keras lists."""
    return any(base.__name__ in _MODELS for base in type(layer).__mro__)


def _walk(model: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for path, layer in _layers(model, prefix):
        yield from _weights(path, layer)


def _layers(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        if is_model(layer):
            yield from _layers(layer, f"{path}/")
        else:
            yield path, layer


def _weights(path: str, layer: Any) -> Iterator[tuple[str, Any, Any]]:
    parts = list(_sub_layers(layer))
    inner = {id(v) for part in parts for v in part.weights}
    for variable in layer.weights:
        name = _short_name(variable)
        if id(variable) not in inner and name in KERNELS and len(variable.shape) >= 2:
            yield f"{path}/{_uniform(layer, name)}", layer, variable
    for part in parts:
        if is_model(part):
            yield from _walk(part, f"{path}/{part.name}/")
        elif _is_cell(part):  # the RNN layer is what users know; its cell is how Keras builds it
            yield from ((name, layer, variable) for name, _, variable in _weights(path, part))
        else:
            yield from _weights(f"{path}/{part.name}", part)


def _sub_layers(layer: Any) -> Iterator[Any]:
    if hasattr(layer, "_flatten_layers"):
        yield from layer._flatten_layers(include_self=False, recursive=False)


def _is_cell(layer: Any) -> bool:
    return type(layer).__name__.endswith("Cell")


def _short_name(variable: Any) -> str:
    return str(variable.name).split(":")[0].rpartition("/")[2]


def _uniform(layer: Any, name: str) -> str:
    """Keras 2 calls the kernel of a depthwise layer `depthwise_kernel`, Keras 3 `kernel`."""
    return "kernel" if _kind(layer).startswith("DepthwiseConv") else name


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _is_depthwise(layer: Any, name: str, shape: tuple[int, ...]) -> bool:
    if _kind(layer).startswith("DepthwiseConv") or name == "depthwise_kernel":
        return True
    return int(getattr(layer, "groups", 1) or 1) > 1 and len(shape) > 2 and shape[-2] == 1


def _care(name: str, layer: Any, variable: Any, first: str | None, last: list[str]) -> Care | None:
    shape = tuple(variable.shape)
    if _is_depthwise(layer, name.rpartition("/")[2], shape):
        return "depthwise"
    return "first" if name == first else "last" if name in last else None


def _output_layers(model: Any) -> list[Any]:
    """The layers that make the outputs; those of nested models are looked for inside."""
    found = []
    for tensor in getattr(model, "outputs", None) or []:
        history = getattr(tensor, "_keras_history", None)
        layer = history and (history[0] if hasattr(history[0], "name") else None)
        if layer is not None and is_model(layer) and layer is not model:
            found += _output_layers(layer)
        elif layer is not None:
            found.append(layer)
    return found


def _dtype(variable: Any) -> str:
    return str(getattr(variable.dtype, "name", variable.dtype))
