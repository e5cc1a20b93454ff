"""Judges an artifact's answers against the source's."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from pipcook_deploy.options import Options
from pipcook_deploy.runtime import Tensors


class Tolerance(Options):
    """How far an artifact may be from its source.

    An exact artifact passes when |a - s| <= absolute + relative * max|s| for every element of every
    output. A lossy one (`agreement` set) passes when its winner along the last axis is the source's on
    at least that share of samples; a winner whose source score is within `tie` * max|s| of the source's
    best counts as agreeing. An output with a last axis of 1, or not float, has no winner: it passes when
    its root-mean-square difference is at most `rms` of the source's own root-mean-square.
    """

    absolute: float = Field(default=1e-4, ge=0)
    relative: float = Field(default=1e-5, ge=0)
    agreement: float | None = Field(default=None, ge=0, le=1)
    tie: float = Field(default=0.01, ge=0)
    rms: float = Field(default=0.1, ge=0)


TOLERANCES = {
    "float32": Tolerance(),
    "float16": Tolerance(agreement=0.99),
    "uint16": Tolerance(agreement=0.99),
    "uint8": Tolerance(agreement=0.95),
    "dynamic": Tolerance(agreement=0.95),
    "int8_weights": Tolerance(agreement=0.95),
    "int8": Tolerance(agreement=0.9, tie=0.05, rms=0.25),
    "int16x8": Tolerance(agreement=0.95),
}


def tolerance_for(precision: str) -> Tolerance:
    """The default tolerance of a precision; an unknown one is held to float32's."""
    return TOLERANCES.get(precision, TOLERANCES["float32"])


@dataclass(frozen=True)
class OutputComparison:
    """How one output differs; `max_rel` is relative to the source's largest value of that output.

    Differences are None where they cannot be told (another shape, a NaN, a source of zeros only).
    `worst_sample` is where the largest difference was met.
    """

    name: str
    max_abs: float | None
    max_rel: float | None
    agreement: float | None
    worst_sample: int
    passed: bool
    reason: str | None


def compare_outputs(
    expected: Tensors, actual: Tensors, tolerance: Tolerance
) -> tuple[OutputComparison, ...]:
    """One comparison per expected output; a missing output, another shape or a NaN is a failure."""
    return tuple(
        _missing(name, actual)
        if name not in actual
        else _compare(name, value, actual[name], tolerance)
        for name, value in expected.items()
    )


def top1_accuracy(scores: Any, labels: Any) -> float:
    """Share of samples whose highest score along the last axis is at the label."""
    import numpy as np

    flat = np.asarray(scores).reshape(len(labels), -1)
    return float((flat.argmax(axis=1) == np.asarray(labels)).mean())


def _missing(name: str, actual: Tensors) -> OutputComparison:
    found = ", ".join(actual) or "none"
    return _failed(name, f"output {name!r} is missing (found: {found})")


def _failed(name: str, reason: str, worst: int = 0) -> OutputComparison:
    return OutputComparison(name, None, None, None, worst, False, reason)


def _compare(name: str, expected: Any, actual: Any, tolerance: Tolerance) -> OutputComparison:
    import numpy as np

    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape:
        return _failed(name, f"shape {list(actual.shape)} instead of {list(expected.shape)}")
    if expected.dtype.kind in "OUS":
        return _compare_text(name, expected, actual)
    if expected.size == 0:
        return OutputComparison(name, 0.0, 0.0, None, 0, True, None)
    source, other = expected.astype(np.float64), actual.astype(np.float64)
    odd = (np.isnan(source) != np.isnan(other)) | (
        (np.isinf(source) | np.isinf(other)) & (source != other) & ~np.isnan(source)
    )
    if odd.any():
        sample = int(np.argwhere(odd)[0][0]) if odd.ndim else 0
        return _failed(
            name, f"sample {sample} has NaN or infinity where the source has not", sample
        )
    finite = np.isfinite(source)
    return _judge(name, np.where(finite, source, 0), np.where(finite, other, 0), tolerance)


def _judge(name: str, source: Any, other: Any, tolerance: Tolerance) -> OutputComparison:
    import numpy as np

    difference = np.abs(source - other)
    scale = float(np.abs(source).max())
    largest = float(difference.max())
    worst = int(np.unravel_index(difference.argmax(), difference.shape)[0]) if source.ndim else 0
    agreement = _agreement(source, other, tolerance.tie * scale)
    relative = largest / scale if scale else None
    reason = _reason(source, difference, agreement, tolerance)
    return OutputComparison(name, largest, relative, agreement, worst, reason is None, reason)


def _agreement(source: Any, other: Any, tie: float) -> float | None:
    import numpy as np

    if source.ndim < 2 or source.shape[-1] < 2:
        return None
    winner = other.argmax(axis=-1)
    score = np.take_along_axis(source, winner[..., None], axis=-1)[..., 0]
    return float((score >= source.max(axis=-1) - tie).mean())


def _reason(
    source: Any, difference: Any, agreement: float | None, tolerance: Tolerance
) -> str | None:
    import numpy as np

    largest = float(difference.max())
    if tolerance.agreement is None:
        allowed = tolerance.absolute + tolerance.relative * float(np.abs(source).max())
        return None if largest <= allowed else f"differs by {largest:.3g}, allowed {allowed:.3g}"
    if agreement is not None:
        if agreement >= tolerance.agreement:
            return None
        return f"agrees on {agreement:.1%} of samples, wanted {tolerance.agreement:.1%}"
    rms = float(np.sqrt((difference**2).mean()))
    allowed = tolerance.rms * float(np.sqrt((source**2).mean()))
    return None if rms <= allowed else f"differs by {rms:.3g} (rms), allowed {allowed:.3g}"


def _compare_text(name: str, expected: Any, actual: Any) -> OutputComparison:
    def text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    pairs = zip(expected.ravel().tolist(), actual.ravel().tolist(), strict=True)
    for number, (want, got) in enumerate(pairs):
        if text(want) != text(got):
            return _failed(name, f"element {number} is {got!r} instead of {want!r}")
    return OutputComparison(name, 0.0, 0.0, None, 0, True, None)
