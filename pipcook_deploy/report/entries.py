"""What a report says, as data: the content of `report.json`."""

from typing import Literal

from pydantic import Field, JsonValue

from pipcook_deploy.options import Options

Verdict = Literal["winner", "in budget", "out of budget", "failed"]


class IntervalEntry(Options):
    """A measured value with its 95 % confidence interval."""

    value: float
    low: float
    high: float


class SplitEntry(Options):
    """A part of the data: how many samples, and the sha256 of them."""

    name: str
    count: int
    sha256: str


class ProofEntry(Options):
    """A candidate measured once more, on data that neither calibration nor the search ever saw.

    `source` is the source on the same samples; `drop` is as in `CandidateEntry`.
    """

    source: IntervalEntry
    score: IntervalEntry
    drop: IntervalEntry
    samples: int
    split: str = "verdict"


class CandidateEntry(Options):
    """Something that was tried: a model after its passes, written in one format with some precision.

    `drop` is what the metric lost against the source, in the metric's own unit (0.005 of accuracy is half a
    point); positive is worse. `split` is the data that it was measured on. Sizes are bytes; `latency_ms` is the
    median of one answer. `proof` is the winner's verdict. The source as it is, with `model` "source" and
    `precision` "float32", is what its format is compared with.
    """

    id: str
    format: str
    model: str  # the passes in words: "source", "prune 80 % + fine-tune"
    precision: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    size: int | None = None
    wire_size: int | None = None
    sparsity: float | None = None
    score: IntervalEntry | None = None
    drop: IntervalEntry | None = None
    samples: int = 0
    split: str = "selection"
    latency_ms: float | None = None
    verdict: Verdict = "in budget"
    on_front: bool = False
    reason: str | None = None
    seconds: float = 0.0
    proof: ProofEntry | None = None


class HistogramEntry(Options):
    """Counts of weights between `edges` (one more than counts)."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class LayerEntry(Options):
    """A layer's kernel: what was done to it, what it would cost to do more.

    `sensitivity` maps what was tried on this layer alone ("prune 70 %", "4 bits") to the damage: the mean
    Kullback-Leibler divergence of the answers from the source's, or their relative squared difference.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    sparsity: float = 0.0
    precision: dict[str, str] = Field(default_factory=dict)  # by format
    sensitivity: dict[str, float] = Field(default_factory=dict)
    before: HistogramEntry | None = None
    after: HistogramEntry | None = None


class ClassEntry(Options):
    """A class before and after, by format."""

    label: str
    samples: int
    before: float
    after: dict[str, float]


class FlipEntry(Options):
    """A sample whose answer changed. `picture` is a PNG as base64, `text` what a text model read."""

    format: str
    origin: str
    picture: str | None = None
    text: str | None = None
    truth: str | None = None
    before: str
    before_score: float | None = None
    after: str
    after_score: float | None = None


class FlipCounts(Options):
    """How many answers changed: right ones that were lost, wrong ones that were mended, and all others."""

    lost: int = 0
    mended: int = 0
    other: int = 0


class TimedEntry(Options):
    """How fast one artifact answers in one runtime.

    Milliseconds for one answer of `batch` samples; `throughput` is samples a second. `stable` says that the medians
    of the windows were within 10 % of each other.
    """

    format: str
    artifact: Literal["float32", "compressed"]
    precision: str
    runtime: str
    threads: int
    batch: int
    p50_ms: float
    throughput: float
    stable: bool


class BenchEntry(TimedEntry):
    """The same with the slow answers, and the median of every window."""

    p95_ms: float
    windows: tuple[float, ...]


class RankEntry(TimedEntry):
    """A place among what answers alike: the same number of threads and samples at once.

    `speed_up` is how much faster than the float32 artifact of the same format in the same runtime.
    """

    place: int
    speed_up: float | None


class Report(Options):
    """Everything that a compression measured.

    `unit` is what the metric counts in: "%" when it is a share from 0 to 1, which is shown as percent and its
    change in points; otherwise what is written behind the number ("dB", "px", or nothing). `samples_are`
    names the samples: "images", "mails". The goal "none" is that of a compression without a budget, whose
    `max_drop` means nothing.
    """

    name: str
    version: str
    metric: str
    unit: str = "%"
    higher_is_better: bool = True
    samples_are: str = "samples"
    max_drop: float
    goal: str
    seed: int
    seconds: float
    splits: tuple[SplitEntry, ...]
    bad_samples: tuple[str, ...] = ()
    source: IntervalEntry
    candidates: tuple[CandidateEntry, ...]
    winners: dict[str, str]  # format -> id of the candidate
    why: dict[str, str]  # format -> why it won, or what would have to be relaxed
    classes: tuple[ClassEntry, ...] = ()
    layers: tuple[LayerEntry, ...] = ()
    flips: tuple[FlipEntry, ...] = ()
    flip_counts: dict[str, FlipCounts] = Field(default_factory=dict)  # by format
    bench: tuple[BenchEntry, ...] = ()
    notes: tuple[str, ...] = ()
