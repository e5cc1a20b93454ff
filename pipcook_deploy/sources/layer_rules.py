"""Output shape, parameters and multiply-accumulates of the usual Keras layers, from their config.

Shapes count the batch axis. `macs` are for one sample; element-wise work counts as none. Whatever cannot be
known is None, never 0.
"""

from collections.abc import Callable
from math import prod

from pipcook_deploy.sources.keras_topology import Shape
from pipcook_deploy.sources.layer_math import UNKNOWN, Config, Effect, Known, bias, plus, times
from pipcook_deploy.sources.layer_windows import WINDOW_RULES

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


def _dense(config: Config, shapes: tuple[Known, ...]) -> Effect:
    shape, units = shapes[0], config["units"]
    weights = times(shape[-1], units)
    return Effect(
        ((*shape[:-1], units),), plus(weights, bias(config, units)), times(weights, *shape[1:-1])
    )


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
            plus(weights, bias(config, biases * gates * units)),
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
    biases = bias(config, plus(heads * (2 * size + depth), query[-1]))
    macs = [times(w, steps) for w, (_, _, steps) in zip(weights, parts, strict=True)]
    scores = times(query[1], value[1], heads * (size + depth))
    return Effect((query,), plus(*weights, out, biases), plus(*macs, times(out, query[1]), scores))


_RULES: dict[str, Callable[[Config, tuple[Known, ...]], Effect]] = {
    "Dense": _dense,
    **WINDOW_RULES,
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
