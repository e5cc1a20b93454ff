"""Layers that look through a window or move edges: convolutions, pooling, padding, cropping, upsampling."""

from collections.abc import Callable
from typing import Any

from pipcook_deploy.sources.layer_math import UNKNOWN, Config, Effect, Known, bias, plus, times


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


def _conv(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    filters, groups = config["filters"], config.get("groups", 1) or 1
    out = _window(config, space, "kernel_size")
    each = None if channels is None else channels // groups
    weights = times(*_pair(config["kernel_size"], len(space)), each, filters)
    return Effect(
        (_join(config, shapes[0][0], out, filters),),
        plus(weights, bias(config, filters)),
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
        plus(weights, bias(config, config["filters"])),
        times(weights, *space),
    )


def _depthwise(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    out = _window(config, space, "kernel_size")
    filters = times(channels, config.get("depth_multiplier", 1))
    weights = times(*_pair(config["kernel_size"], len(space)), filters)
    return Effect(
        (_join(config, shapes[0][0], out, filters),),
        plus(weights, bias(config, filters)),
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
        plus(depth, point, bias(config, config["filters"])),
        times(plus(depth, point), *out),
    )


def _pool(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    return Effect((_join(config, shapes[0][0], _window(config, space, "pool_size"), channels),))


def _global_pool(config: Config, shapes: tuple[Known, ...]) -> Effect:
    space, channels = _split(config, shapes[0])
    ones: Known = (1,) * len(space) if config.get("keepdims") else ()
    return Effect((_join(config, shapes[0][0], ones, channels),))


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


def _by_rank(prefix: str, rule: Callable[[Config, tuple[Known, ...]], Effect]) -> Any:
    return {f"{prefix}{rank}D": rule for rank in (1, 2, 3)}


WINDOW_RULES: dict[str, Callable[[Config, tuple[Known, ...]], Effect]] = {
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
}
