"""Output shape, parameters and multiply-accumulates of the usual Keras layers, from their config.

Shapes count the batch axis. `macs` are for one sample; element-wise work counts as none. Whatever cannot be
known is None, never 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from pipcook_deploy.sources.keras_topology import Shape

Config = dict[str, Any]
Known = tuple[int | None, ...]


@dataclass(frozen=True)
class Effect:
    """What a layer does to its input shapes."""

    outputs: tuple[Shape, ...]
    parameters: int | None = 0
    macs: int | None = 0


UNKNOWN = Effect((None,), None, None)
_SAME = frozenset(
    [
        "Activation",
        "ReLU",
        "LeakyReLU",
        "ELU",
        "ThresholdedReLU",
        "Softmax",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "GaussianNoise",
        "GaussianDropout",
        "AlphaDropout",
        "ActivityRegularization",
        "Masking",
        "InputLayer",
        "Rescaling",
        "Identity",
        "UnitNormalization",
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomContrast",
        "RandomTranslation",
        "RandomBrightness",
        "Relu",
        "Relu6",
        "Sigmoid",
        "Silu",
        "Tanh",
        "HardSigmoid",
        "HardSilu",
        "Gelu",
        "Elu",
        "Selu",
        "Absolute",
        "Negative",
        "Sqrt",
        "Square",
        "Exp",
        "Log",
        "Cast",
    ]
)
_MERGES = frozenset(
    [
        "Add",
        "Subtract",
        "Multiply",
        "Average",
        "Maximum",
        "Minimum",
        "Divide",
        "TrueDivide",
        "Power",
        "NotEqual",
        "Equal",
    ]
)


def apply(class_name: str, config: Config, shapes: tuple[Shape, ...]) -> Effect:
    """The effect of a layer; `UNKNOWN` for a layer without a rule or an input of unknown rank."""
    if class_name in _SAME and shapes:
        return Effect((shapes[0],))
    if class_name in _MERGES:
        return Effect((_broadcast(shapes),))
    rule = _RULES.get(class_name)
    if rule is None or not shapes or any(shape is None for shape in shapes):
        return UNKNOWN
    known = tuple(shape for shape in shapes if shape is not None)
    try:
        return rule(config, known)
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return UNKNOWN  # a config that this rule does not understand


def times(*sizes: int | None) -> int | None:
    """A product, None if a factor is unknown."""
    known = [size for size in sizes if size is not None]
    return prod(known) if len(known) == len(sizes) else None


def plus(*sizes: int | None) -> int | None:
    """A sum, None if a term is unknown."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _broadcast(shapes: tuple[Shape, ...]) -> Shape:
    known = [shape for shape in shapes if shape is not None]
    if not known or len(known) != len(shapes):
        return None
    rank = max(len(shape) for shape in known)
    axes = zip(*((1,) * (rank - len(shape)) + shape for shape in known), strict=True)
    return tuple(_axis(sizes) for sizes in axes)


def _axis(sizes: tuple[int | None, ...]) -> int | None:
    larger = {size for size in sizes if size != 1}
    if not larger:
        return 1
    fixed = larger - {None}
    return next(iter(fixed)) if fixed else None


def _first(config: Config) -> bool:
    return config.get("data_format") == "channels_first"


def _split(config: Config, shape: Known) -> tuple[Known, int | None]:
    """Spatial sizes and channels."""
    return (shape[2:], shape[1]) if _first(config) else (shape[1:-1], shape[-1])


def _join(config: Config, batch: int | None, space: Known, channels: int | None) -> Known:
    return (batch, channels, *space) if _first(config) else (batch, *space, channels)


def _pair(value: Any, rank: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, list | tuple) else (value,) * rank
    if len(sizes) == 1:
        sizes *= rank
    if len(sizes) != rank or not all(type(size) is int for size in sizes):
        raise ValueError(value)
    return sizes


def _window(config: Config, space: Known, key: str) -> Known:
    rank = len(space)
    kernel = _pair(config[key], rank)
    stride = _pair(config.get("strides") or (kernel if key == "pool_size" else 1), rank)
    dilation = _pair(config.get("dilation_rate", 1), rank)
    same = config.get("padding", "valid") in ("same", "causal")
    sizes: list[int | None] = []
    for size, k, s, d in zip(space, kernel, stride, dilation, strict=True):
        reach = (k - 1) * d + 1
        sizes.append(None if size is None else -(-size // s) if same else (size - reach) // s + 1)
    return tuple(sizes)


def _bias(config: Config, count: int | None) -> int | None:
    return count if config.get("use_bias", True) else 0


def _dense(config: Config, shapes: tuple[Known, ...]) -> Effect:
    shape, units = shapes[0], config["units"]
    weights = times(shape[-1], units)
    return Effect(
        ((*shape[:-1], units),), plus(weights, _bias(config, units)), times(weights, *shape[1:-1])
    )


def _conv(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    filters, groups = config["filters"], config.get("groups", 1) or 1
    out = _window(config, space, "kernel_size")
    each = None if channels is None else channels // groups
    weights = times(*_pair(config["kernel_size"], len(space)), each, filters)
    return Effect(
        (_join(config, shapes[0][0], out, filters),),
        plus(weights, _bias(config, filters)),
        times(weights, *out),
    )


def _conv_transpose(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    rank = len(space)
    kernel, stride = _pair(config["kernel_size"], rank), _pair(config.get("strides", 1), rank)
    if config.get("output_padding") is not None or _pair(config.get("dilation_rate", 1), rank) != (
        (1,) * rank
    ):
        return UNKNOWN
    grow = [
        0 if config.get("padding") == "same" else max(k - s, 0)
        for k, s in zip(kernel, stride, strict=True)
    ]
    out = tuple(plus(times(n, s), g) for n, s, g in zip(space, stride, grow, strict=True))
    weights = times(*kernel, channels, config["filters"])
    return Effect(
        (_join(config, shapes[0][0], out, config["filters"]),),
        plus(weights, _bias(config, config["filters"])),
        times(weights, *space),
    )


def _depthwise(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    out = _window(config, space, "kernel_size")
    filters = times(channels, config.get("depth_multiplier", 1))
    weights = times(*_pair(config["kernel_size"], len(space)), filters)
    return Effect(
        (_join(config, shapes[0][0], out, filters),),
        plus(weights, _bias(config, filters)),
        times(weights, *out),
    )


def _separable(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    out = _window(config, space, "kernel_size")
    middle = times(channels, config.get("depth_multiplier", 1))
    depth = times(*_pair(config["kernel_size"], len(space)), middle)
    point = times(middle, config["filters"])
    return Effect(
        (_join(config, shapes[0][0], out, config["filters"]),),
        plus(depth, point, _bias(config, config["filters"])),
        times(plus(depth, point), *out),
    )


def _pool(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    return Effect((_join(config, shapes[0][0], _window(config, space, "pool_size"), channels),))


def _global_pool(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    ones: Known = (1,) * len(space) if config.get("keepdims") else ()
    return Effect((_join(config, shapes[0][0], ones, channels),))


def _flatten(config: Config, shapes: tuple[Known, ...]) -> Effect:
    return Effect(((shapes[0][0], times(*shapes[0][1:])),))


def _reshape(config: Config, shapes: tuple[Known, ...]) -> Effect:
    batch, *rest = shapes[0]
    target = list(config["target_shape"])
    count = times(*rest)
    free = [i for i, size in enumerate(target) if size in (-1, None)]
    if len(free) == 1:
        fixed = prod(size for i, size in enumerate(target) if i != free[0])
        target[free[0]] = None if count is None else count // fixed
    return Effect(((batch, *(None if size == -1 else size for size in target)),))


def _permute(config: Config, shapes: tuple[Known, ...]) -> Effect:
    return Effect(((shapes[0][0], *(shapes[0][axis] for axis in config["dims"])),))


def _repeat(config: Config, shapes: tuple[Known, ...]) -> Effect:
    return Effect(((shapes[0][0], config["n"], shapes[0][1]),))


def _margins(config: Config, key: str, rank: int) -> list[int]:
    value = config[key]
    if isinstance(value, int):
        return [2 * value] * rank
    if rank == 1:
        return [sum(_pair(value, 2))]
    return [2 * v if isinstance(v, int) else sum(_pair(v, 2)) for v in value]


def _padding(key: str, sign: int) -> Callable[[Config, tuple[Known, ...]], Effect]:
    def rule(config: Config, shapes: tuple[Known, ...]) -> Effect:
        space, channels = _split(config, shapes[0])
        margins = _margins(config, key, len(space))
        out = tuple(plus(n, sign * m) for n, m in zip(space, margins, strict=True))
        return Effect((_join(config, shapes[0][0], out, channels),))

    return rule


def _upsampling(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    factors = _pair(config["size"], len(space))
    out = tuple(times(n, f) for n, f in zip(space, factors, strict=True))
    return Effect((_join(config, shapes[0][0], out, channels),))


def _concatenate(config: Config, shapes: tuple[Known, ...]) -> Effect:
    axis = config.get("axis", -1)
    out = list(shapes[0])
    out[axis] = plus(*(shape[axis] for shape in shapes))
    return Effect((tuple(out),))


def _batch_norm(config: Config, shapes: tuple[Known, ...]) -> Effect:
    axes = config.get("axis", -1)
    sizes = [shapes[0][axis] for axis in (axes if isinstance(axes, list) else [axes])]
    vectors = 2 + bool(config.get("center", True)) + bool(config.get("scale", True))
    return Effect((shapes[0],), times(vectors, *sizes))


def _layer_norm(config: Config, shapes: tuple[Known, ...]) -> Effect:
    axes = config.get("axis", -1)
    sizes = [shapes[0][axis] for axis in (axes if isinstance(axes, list) else [axes])]
    vectors = bool(config.get("center", True)) + bool(config.get("scale", True))
    return Effect((shapes[0],), times(vectors, *sizes))


def _normalization(config: Config, shapes: tuple[Known, ...]) -> Effect:
    if config.get("mean") is not None:
        return Effect((shapes[0],))
    axes = config.get("axis", -1)
    axes = axes if isinstance(axes, list) else [] if axes is None else [axes]
    return Effect((shapes[0],), plus(times(2, *(shapes[0][axis] for axis in axes)), 1))


def _prelu(config: Config, shapes: tuple[Known, ...]) -> Effect:
    shared = config.get("shared_axes") or []
    sizes = [1 if i in shared else size for i, size in enumerate(shapes[0])][1:]
    return Effect((shapes[0],), times(*sizes))


def _embedding(config: Config, shapes: tuple[Known, ...]) -> Effect:
    count = times(config["input_dim"], config["output_dim"])
    return Effect(((*shapes[0], config["output_dim"]),), count)


def _recurrent(gates: int) -> Callable[[Config, tuple[Known, ...]], Effect]:
    def rule(config: Config, shapes: tuple[Known, ...]) -> Effect:
        (batch, steps, width), units = shapes[0], config["units"]
        weights = times(gates, units, plus(width, units))
        # A GRU with reset_after (the default of Keras, absent from TF.js) has two bias vectors.
        biases = 2 if gates == 3 and config.get("reset_after", False) else 1
        out: Known = (batch, steps, units) if config.get("return_sequences") else (batch, units)
        states: tuple[Known, ...] = ()
        if config.get("return_state"):
            states = ((batch, units),) * (2 if gates == 4 else 1)
        return Effect(
            (out, *states),
            plus(weights, _bias(config, biases * gates * units)),
            times(weights, steps),
        )

    return rule


def _bidirectional(config: Config, shapes: tuple[Known, ...]) -> Effect:
    inner = config["layer"]
    one = apply(inner["class_name"], inner["config"], shapes[:1])
    mode, out = config.get("merge_mode", "concat"), one.outputs[0]
    if out is None:
        return UNKNOWN
    merged = (*out[:-1], times(2, out[-1])) if mode == "concat" else out
    states = one.outputs[1:] * 2
    outputs = (merged, *states) if mode is not None else (out, out, *states)
    return Effect(outputs, times(2, one.parameters), times(2, one.macs))


def _time_distributed(config: Config, shapes: tuple[Known, ...]) -> Effect:
    inner = config["layer"]
    batch, steps, *rest = shapes[0]
    one = apply(inner["class_name"], inner["config"], ((batch, *rest),))
    if one.outputs[0] is None:
        return UNKNOWN
    out = (batch, steps, *one.outputs[0][1:])
    return Effect((out,), one.parameters, times(one.macs, steps))


def _attention(config: Config, shapes: tuple[Known, ...]) -> Effect:
    query = shapes[0]
    value = shapes[1] if len(shapes) > 1 else query
    key = shapes[2] if len(shapes) > 2 else value
    if config.get("output_shape") is not None or len(query) != 3:
        return UNKNOWN
    heads, size = config["num_heads"], config["key_dim"]
    depth = config.get("value_dim") or size
    parts = (
        (query, heads * size, query[1]), (key, heads * size, key[1]), (value, heads * depth, value[1])
    )  # fmt: skip
    weights = [times(shape[-1], width) for shape, width, _ in parts]
    out = times(heads * depth, query[-1])
    biases = _bias(config, plus(heads * (2 * size + depth), query[-1]))
    macs = [times(w, steps) for w, (_, _, steps) in zip(weights, parts, strict=True)]
    scores = times(query[1], value[1], heads * (size + depth))
    return Effect((query,), plus(*weights, out, biases), plus(*macs, times(out, query[1]), scores))


def _by_rank(prefix: str, rule: Callable[[Config, tuple[Known, ...]], Effect]) -> Any:
    return {f"{prefix}{rank}D": rule for rank in (1, 2, 3)}


_RULES: dict[str, Callable[[Config, tuple[Known, ...]], Effect]] = {
    "Dense": _dense,
    **_by_rank("Conv", _conv),
    **{f"Conv{n}DTranspose": _conv_transpose for n in (1, 2, 3)},
    **_by_rank("DepthwiseConv", _depthwise),
    **_by_rank("SeparableConv", _separable),
    **_by_rank("MaxPooling", _pool),
    **_by_rank("AveragePooling", _pool),
    **_by_rank("GlobalMaxPooling", _global_pool),
    **_by_rank("GlobalAveragePooling", _global_pool),
    **_by_rank("ZeroPadding", _padding("padding", 1)),
    **_by_rank("Cropping", _padding("cropping", -1)),
    **_by_rank("UpSampling", _upsampling),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "Concatenate": _concatenate,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _layer_norm,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Embedding": _embedding,
    "SimpleRNN": _recurrent(1),
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    "MultiHeadAttention": _attention,
}
