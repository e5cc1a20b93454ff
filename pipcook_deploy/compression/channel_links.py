"""Which kernels scale each other's channels: a convolution, what passes channels on, and the next kernel."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipcook_deploy.compression.fake_quantize import folded_scale
from pipcook_deploy.compression.keras_chain import Chain, chains, norm_scale, norms_after
from pipcook_deploy.compression.keras_layers import Array, Kernel
from pipcook_deploy.sources.keras_topology import Graph, Layer

_HOMOGENEOUS = ("linear", "relu", "leaky_relu")  # f(c x) = c f(x) for every c > 0
_PASSING = (
    "AveragePooling1D", "AveragePooling2D", "Cropping1D", "Cropping2D", "Dropout", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Identity", "LeakyReLU",
    "MaxPooling1D", "MaxPooling2D", "PReLU", "SpatialDropout1D", "SpatialDropout2D", "UpSampling1D",
    "ZeroPadding1D", "ZeroPadding2D", "Flatten",
)  # fmt: skip
_KERNELS = {
    "Conv1D": ("kernel", "kernel"),
    "Conv2D": ("kernel", "kernel"),
    "Conv2DTranspose": ("kernel", "kernel"),
    "Dense": ("kernel", "kernel"),
    "DepthwiseConv1D": ("kernel", "kernel"),
    "DepthwiseConv2D": ("kernel", "kernel"),
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel"),
}  # the kernel that reads a layer's input, and the one that makes its output


@dataclass(frozen=True, eq=False)
class Stage:
    """A kernel with what is added and normalized after it, before anything else happens to its channels."""

    kernel: Kernel
    bias: Any | None = None
    norm: Any | None = None

    def out_ranges(self, folded: bool = True) -> Array:
        """The largest magnitude of each output channel, a following batch norm folded in or not."""
        value = np.abs(self._folded() if folded else self.kernel.get())
        axis = value.ndim - 2 if self._transposed else value.ndim - 1
        if self.kernel.depthwise:
            rows = value.reshape(-1, value.shape[-2] * value.shape[-1])
        else:
            rows = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])
        found: Array = rows.max(axis=0)
        return found

    def in_ranges(self, channels: int) -> Array:
        """The largest magnitude of what reads each input channel; flattened places count as their channel."""
        found: Array = self._by_input(np.abs(self._folded()), channels).max(axis=(0, 2))
        return found

    def divide_outputs(self, factors: Array) -> None:
        """Divide each output channel: the batch norm if there is one, the kernel and bias otherwise."""
        if self.norm is not None:
            for variable in (self.norm.gamma, self.norm.beta if self.norm.center else None):
                if variable is not None:
                    variable.assign(np.asarray(variable) / factors)
            return
        self._divide_kernel(factors)

    def divide_before_norm(self, factors: Array) -> None:
        """Divide what the batch norm reads, and have it expect that: its answer stays."""
        norm = self.norm
        if norm is None:
            return
        self._divide_kernel(factors)
        norm.moving_mean.assign(np.asarray(norm.moving_mean) / factors)
        norm.moving_variance.assign(self._variance(factors))

    def most_before_norm(self) -> Array:
        """What each channel can be divided by at most: variances do not get negative."""
        norm: Any = self.norm
        variance = np.asarray(norm.moving_variance, dtype=np.float64)
        found: Array = np.sqrt(1 + variance / norm.epsilon)
        return found

    def _variance(self, factors: Array) -> Array:
        """Of divided channels; epsilon, which is added to it, is not divided."""
        norm: Any = self.norm
        variance = np.asarray(norm.moving_variance, dtype=np.float64)
        scaled = (variance + norm.epsilon) / factors.astype(np.float64) ** 2
        found: Array = np.maximum(scaled - norm.epsilon, 0)
        return found

    def _divide_kernel(self, factors: Array) -> None:
        value = self.kernel.get()
        shape = (
            (-1, 1) if self._transposed else value.shape[-2:] if self.kernel.depthwise else (-1,)
        )
        self.kernel.set(value / factors.reshape(shape))
        if self.bias is not None:
            self.bias.assign(np.asarray(self.bias) / factors)

    def multiply_inputs(self, factors: Array) -> None:
        """Multiply what reads each input channel."""
        value = self.kernel.get()
        rows = self._by_input(value, len(factors)) * factors[None, :, None]
        if self._transposed:
            self.kernel.set(rows.reshape(*value.shape[:-2], value.shape[-1], -1).swapaxes(-1, -2))
        else:
            self.kernel.set(rows.reshape(value.shape))

    @property
    def _transposed(self) -> bool:
        return self.kernel.kind.endswith("Transpose")

    def _folded(self) -> Array:
        value = self.kernel.get()
        if self.norm is None:
            return value
        folded: Array = value * folded_scale(self.kernel, norm_scale(self.norm))
        return folded

    def _by_input(self, value: Array, channels: int) -> Array:
        """[places, input channels, the rest]."""
        if self._transposed:
            value = value.swapaxes(-1, -2)
        return value.reshape(-1, channels, value.shape[-1])


@dataclass(frozen=True, eq=False)
class Link:
    """Two stages; nothing but scale-keeping layers is between, and nobody else reads the channels."""

    first: Stage
    second: Stage


def links(
    graph: Graph, kernels: list[Kernel], live: dict[str, Any]
) -> tuple[list[Link], list[str]]:
    """All pairs in the order of the layers, and why kernels have no successor to balance with."""
    by_name = {kernel.name: kernel for kernel in kernels}
    found: list[Link] = []
    notes: list[str] = []
    for chain in chains(graph):
        for name, layer in chain.layers.items():
            if layer.class_name not in _KERNELS or not _plain(layer):
                continue
            path = f"{chain.prefix}{name}"
            if layer.class_name.startswith("Separable"):
                inner = by_name[f"{path}/depthwise_kernel"], by_name[f"{path}/pointwise_kernel"]
                found.append(Link(Stage(inner[0]), Stage(inner[1])))
            link, reason = _link(chain, layer, by_name, live)
            if link is not None:
                found.append(link)
            else:
                notes.append(f"{path}: not balanced: {reason}")
    return _with_norms(found), notes


def normed(graph: Graph, kernels: list[Kernel], live: dict[str, Any]) -> list[Stage]:
    """Every kernel whose output a batch norm reads at once, and nobody else."""
    after = norms_after(graph)
    found = []
    for kernel in kernels:
        path, _, weight = kernel.name.rpartition("/")
        norm = live.get(after.get(path, ""))
        last = _KERNELS.get(kernel.kind, ("", ""))[1] == weight
        linear = (
            getattr(getattr(kernel.layer, "activation", None), "__name__", "linear") == "linear"
        )
        if norm is not None and last and linear and _last_axis(norm):
            found.append(Stage(kernel, getattr(kernel.layer, "bias", None), norm))
    return found


def _link(
    chain: Chain, layer: Layer, kernels: dict[str, Kernel], live: dict[str, Any]
) -> tuple[Link | None, str]:
    path = f"{chain.prefix}{layer.name}"
    first = Stage(
        kernels[f"{path}/{_KERNELS[layer.class_name][1]}"], getattr(live[path], "bias", None)
    )
    if _activation(layer) not in _HOMOGENEOUS:
        return None, f"its activation {_activation(layer)} does not keep scales"
    following = chain.next(layer.name)
    if following is not None and following.class_name == "BatchNormalization":
        norm = live[f"{chain.prefix}{following.name}"]
        if _activation(layer) != "linear" or not norm.scale or not _last_axis(norm):
            return None, f"the batch norm {following.name} cannot take the scale up"
        first, following = replace(first, norm=norm), chain.next(following.name)
    while following is not None and _passes(following):
        following = chain.next(following.name)
    if following is None:
        return None, "what comes after it has several readers, or is an output"
    if following.class_name not in _KERNELS or not _plain(following):
        return None, f"{following.name} ({following.class_name}) does not keep scales"
    reader = f"{chain.prefix}{following.name}/{_KERNELS[following.class_name][0]}"
    return Link(first, Stage(kernels[reader])), ""


def _with_norms(found: list[Link]) -> list[Link]:
    """A kernel that is the second of one link and the first of another is one stage."""
    first = {link.first.kernel.name: link.first for link in found}
    return [Link(x.first, first.get(x.second.kernel.name, x.second)) for x in found]


def _passes(layer: Layer) -> bool:
    config = layer.config
    if config.get("data_format") == "channels_first":
        return False
    if layer.class_name == "ReLU":
        return config.get("max_value") is None and not config.get("threshold")
    if layer.class_name == "UpSampling2D":
        return True
    if layer.class_name == "Activation":
        return _activation(layer) in _HOMOGENEOUS
    return layer.class_name in _PASSING


def _plain(layer: Layer) -> bool:
    config = layer.config
    grouped = int(config.get("groups") or 1) > 1
    return config.get("data_format") != "channels_first" and not grouped


def _activation(layer: Layer) -> str:
    value = layer.config.get("activation")
    if isinstance(value, dict):
        value = value.get("config") if isinstance(value.get("config"), str) else value["class_name"]
    return str(value or "linear")


def _last_axis(norm: Any) -> bool:
    axis = norm.axis[0] if isinstance(norm.axis, list | tuple) else norm.axis
    return int(axis) in (-1, len(norm.input.shape) - 1)
