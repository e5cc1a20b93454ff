"""Ranges of activations: what a tensor's values were when the calibration samples went through."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pipcook_deploy.converters.onnx_quantize.graph import Edges
from pipcook_deploy.errors import ConversionError

Method = Literal["minmax", "entropy", "percentile"]
Tensors = dict[str, Any]

BINS = 2048  # of a histogram of absolute values
LEVELS = 128  # of one sign where values have both
AROUND = 8  # bins to each side that a spike is compared with
AT_ONCE = 1 << 26  # bytes of activations that are looked at together


@dataclass(frozen=True)
class Calibration:
    """How ranges are found; `percentile` is the share of values, in percent, that the range holds."""

    method: Method = "minmax"
    percentile: float = 99.99


@dataclass(frozen=True)
class Ranges:
    """Smallest and largest value by tensor, and the mean of each channel of those of four axes."""

    limits: dict[str, tuple[float, float]]
    means: dict[str, Any]


def find_ranges(
    proto: Any, names: Iterable[str], samples: Tensors, calibration: Calibration
) -> Ranges:
    """Ranges of the tensors `names` of a float model.

    Raises `ConversionError` naming a tensor that is not finite. Samples go through one or a few at a time; for
    histograms a second time.
    """
    wanted = list(dict.fromkeys(names))
    fed = {value.name for value in proto.graph.input}
    limits: dict[str, tuple[float, float]] = {}
    sums: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for values in _activations(proto, wanted, fed, samples):
        for name, value in values.items():
            low, high = float(value.min()), float(value.max())
            old = limits.get(name, (low, high))
            limits[name] = min(low, old[0]), max(high, old[1])
            if value.ndim == 4:
                sums[name] = sums.get(name, 0.0) + value.sum(axis=(0, 2, 3), dtype="float64")
                counts[name] = counts.get(name, 0) + value.size // value.shape[1]
    _check(limits)
    if calibration.method != "minmax":
        # An input keeps its range: nothing says that its rarest values mean least.
        inner = {name: pair for name, pair in limits.items() if name not in fed}
        limits |= _narrowed(proto, inner, samples, calibration)
    return Ranges(limits, {name: total / counts[name] for name, total in sums.items()})


def _check(limits: dict[str, tuple[float, float]]) -> None:
    from math import isfinite

    odd = [name for name, pair in limits.items() if not all(map(isfinite, pair))]
    if odd:
        raise ConversionError(
            f"onnx: the values of {odd[0]} are not finite on the calibration samples",
            "look at the samples, or leave its nodes in float with onnx.exclude",
        )


def _narrowed(
    proto: Any,
    limits: dict[str, tuple[float, float]],
    samples: Tensors,
    calibration: Calibration,
) -> dict[str, tuple[float, float]]:
    import numpy as np

    tops = {name: max(abs(low), abs(high)) for name, (low, high) in limits.items()}
    histograms = {name: np.zeros(BINS, np.int64) for name, top in tops.items() if top > 0}
    for values in _activations(proto, list(histograms), set(), samples):
        for name, value in values.items():
            bins = (np.abs(value.ravel()) * (BINS / tops[name])).astype(np.int32)
            histograms[name] += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
    narrowed = dict(limits)
    for name, histogram in histograms.items():
        low, high = limits[name]
        kept = (
            _percentile_bins(histogram, calibration.percentile)
            if calibration.method == "percentile"
            else entropy_bins(histogram, LEVELS if low < 0 else 2 * LEVELS)
        )
        top = tops[name] * kept / BINS
        narrowed[name] = max(low, -top), min(high, top)
    return narrowed


def _percentile_bins(histogram: Any, percentile: float) -> int:
    import numpy as np

    shares = np.cumsum(histogram) / histogram.sum()
    return int(np.searchsorted(shares, percentile / 100)) + 1


def entropy_bins(histogram: Any, levels: int = LEVELS) -> int:
    """How many bins to keep so that their values in `levels` levels tell least from the whole (KL divergence).

    The method of Migacz, "8-bit inference with TensorRT", GTC 2017: what is cut off counts as the last bin.
    """
    import numpy as np

    histogram = _without_spikes(histogram.astype(np.float64))
    total = histogram.sum()
    best, chosen = np.inf, len(histogram)
    for kept in range(levels, len(histogram) + 1, 8):
        part = histogram[:kept].copy()
        filled = part > 0
        if not filled.any():
            continue
        level = np.arange(kept) * levels // kept
        sums = np.bincount(level, weights=part, minlength=levels)
        sizes = np.bincount(level, weights=filled, minlength=levels)
        spread = np.where(filled, (sums / np.maximum(sizes, 1))[level], 0)
        part[-1] += total - part.sum()
        divergence = _divergence(part / total, spread / spread.sum())
        # Chance makes bins of one level differ, the more the fewer values there are (Miller 1955).
        chance = (filled.sum() - (sizes > 0).sum()) / (2 * total)
        divergence = max(divergence - chance, 0.0)
        if divergence < best:
            best, chosen = divergence, kept
    return chosen


def _without_spikes(histogram: Any) -> Any:
    """Bins held below twice the median of their surroundings.

    Zeros, and the one value that a plain background has, are as exact at one scale as at another; they would
    outweigh everything else.
    """
    import numpy as np

    # Empty bins are left out: values may be steps, as those of pictures are.
    filled = np.flatnonzero(histogram)
    counts = histogram[filled]
    if len(counts) < 2 * AROUND:
        return histogram
    padded = np.pad(counts, AROUND, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
    smooth = np.zeros_like(histogram)
    smooth[filled] = np.minimum(counts, 2 * np.median(windows, axis=1))
    return smooth


def _divergence(truth: Any, guess: Any) -> float:
    import numpy as np

    rows = truth > 0
    return float((truth[rows] * np.log(truth[rows] / np.maximum(guess[rows], 1e-12))).sum())


def _activations(
    proto: Any, names: list[str], fed: set[str], samples: Tensors
) -> Iterator[Tensors]:
    """The tensors `names`, for a few samples at a time."""
    inner = [name for name in names if name not in fed]
    call = opened(with_outputs(proto, inner)) if inner else None
    count = len(next(iter(samples.values())))
    start, size = 0, 1
    while start < count:
        rows = {name: value[start : start + size] for name, value in samples.items()}
        values = dict(zip(inner, call(inner, rows), strict=True)) if call else {}
        values |= {name: rows[name] for name in names if name in fed}
        yield {name: value for name, value in values.items() if value.size}
        start += size
        bytes_ = sum(value.nbytes for value in values.values()) // size
        size = _batch(proto, max(1, min(32, AT_ONCE // max(bytes_, 1))))


def _batch(proto: Any, size: int) -> int:
    """A model with a fixed batch takes that many."""
    for value in proto.graph.input:
        shape = value.type.tensor_type.shape
        if shape.dim and shape.dim[0].HasField("dim_value"):
            return 1
    return size


def with_outputs(proto: Any, names: Iterable[str]) -> Any:
    """A copy whose outputs are inner tensors too."""
    copy = type(proto).FromString(proto.SerializeToString())
    edges = Edges(copy)
    for name in names:
        if name not in edges.outputs:
            row = copy.graph.output.add()
            row.name = name
            row.type.tensor_type.elem_type = edges.types.get(name, 1)
    return copy


def opened(proto: Any, threads: int = 0) -> Any:
    """A model ready to be called with names and inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Waiting threads that spin take the processor from the stage's other tasks.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda names, rows: session.run(names, rows)
