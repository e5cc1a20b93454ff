"""Times calls in windows, and says whether the times can be relied on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

WINDOWS = 5
EXTENSION = 3  # times as many windows at most, when the first ones disagree
TOLERANCE = 0.1  # of the median of the windows
LEAST_CALLS = 3  # in a window, however slow a call is

Clock = Callable[[], float]
Call = Callable[[], object]
Window = list[float]  # seconds of each call
Source = Callable[[float], Window]  # calls something for so many seconds


@dataclass(frozen=True)
class Timing:
    """Times of single calls, in seconds, and the medians of the windows that they were taken in."""

    p50: float
    p95: float
    mean: float
    windows: tuple[float, ...]
    stable: bool

    def numbers(self, batch: int) -> dict[str, object]:
        """As `BenchEntry` has them, for calls that answer `batch` samples."""
        return {
            "p50_ms": _rounded(self.p50 * 1e3),
            "p95_ms": _rounded(self.p95 * 1e3),
            "throughput": _rounded(batch / self.mean),
            "windows": [_rounded(median * 1e3) for median in self.windows],
            "stable": self.stable,
        }


def time_in_turns(sources: Sequence[Source], seconds: float) -> list[Timing]:
    """Time several things in turns, `seconds` each: a window of one, a window of the next, and so on.

    What disturbs the machine meets all of them, so that a ratio of two is fair. When the windows of one
    disagree, all go on, up to three times as long, until the latest ones of each agree.
    """
    rounds: list[list[Window]] = []
    while len(rounds) < WINDOWS * EXTENSION:
        rounds.append([source(seconds / WINDOWS) for source in sources])
        latest = zip(*rounds[-WINDOWS:], strict=True)
        if len(rounds) >= WINDOWS and all(_agree(windows) for windows in latest):
            break
    return [_timing(list(windows)) for windows in zip(*rounds, strict=True)]


def repeated(call: Call, warm_up: float, clock: Clock = perf_counter) -> Source:
    """Calls in this process, after `warm_up` seconds of calls that do not count."""
    _window(call, warm_up, clock)
    return lambda seconds: _window(call, seconds, clock)


def is_stable(medians: Sequence[float]) -> bool:
    """Whether all windows lie within 10 % of their median."""
    middle = quantile(medians, 0.5)
    return all(abs(value - middle) <= TOLERANCE * middle for value in medians)


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest ranks (Hyndman and Fan's type 7)."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _timing(windows: list[Window]) -> Timing:
    """Of the latest windows if they agree; of all, and not stable, if they do not."""
    stable = _agree(windows[-WINDOWS:])
    used = windows[-WINDOWS:] if stable else windows
    times = [time for window in used for time in window]
    return Timing(
        p50=quantile(times, 0.5),
        p95=quantile(times, 0.95),
        mean=sum(times) / len(times),
        windows=tuple(quantile(window, 0.5) for window in used),
        stable=stable,
    )


def _agree(windows: Sequence[Window]) -> bool:
    return is_stable([quantile(window, 0.5) for window in windows])


def _window(call: Call, seconds: float, clock: Clock) -> Window:
    times: Window = []
    start = clock()
    while len(times) < LEAST_CALLS or clock() - start < seconds:
        before = clock()
        call()
        times.append(clock() - before)
    return times


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
