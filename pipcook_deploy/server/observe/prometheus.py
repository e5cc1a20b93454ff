"""GET /metrics: the counters in Prometheus' text format, or OpenMetrics where the client asks for it."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from pipcook_deploy.server.app import Context, Routes
from pipcook_deploy.server.http import Answer, Request
from pipcook_deploy.server.observe.metrics import BATCH_BOUNDS, BOUNDS
from pipcook_deploy.server.observe.snapshot import Counts, ModelCounts, Snapshot, merge, snapshot

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.core import HistogramMetricFamily

Peers = Callable[[], Awaitable[Sequence[Snapshot]]]
Value = Callable[[ModelCounts], float]
MODEL = ("model", "version")
# By model: name, what it is, where it is counted.
GAUGES: list[tuple[str, str, Value]] = [
    ("queue_depth", "Requests that wait for the engine.", lambda m: m["depth"]),
    ("pending_requests", "Requests that were let in and have not ended.", lambda m: m["pending"]),
    ("engine_threads", "Threads of one inference; 0: the engine's choice.", lambda m: m["threads"]),
    ("engine_streams", "Inferences at the same time, in one process.", lambda m: m["streams"]),
    ("max_batch_size", "Samples that are computed together at most.", lambda m: m["max_batch"]),
    ("model_workers", "Processes that have the model loaded.", lambda m: m["workers"]),
]
COUNTERS: list[tuple[str, str, Value]] = [
    ("refused_requests", "Requests refused with 503: the queue was full.", lambda m: m["refused"]),
    ("expired_requests", "Requests whose turn came too late.", lambda m: m["expired"]),
]


async def metrics(context: Context, request: Request) -> Answer:
    """GET /metrics, of all workers together."""
    own = await snapshot(context)
    others = await context.peers() if context.peers else ()
    shown = Exposed(merge([own, *others]))
    openmetrics = "application/openmetrics-text" in request.header("accept").lower()
    return await context.compute(lambda: _text(shown, openmetrics))


class Exposed:
    """A snapshot as prometheus_client's encoders take it. Names begin with `pipcook_`."""

    def __init__(self, counts: Snapshot) -> None:
        self._counts = counts

    def collect(self) -> "Iterator[Metric]":
        """Every family, each with all of its samples."""
        yield from self._server()
        yield from self._models()
        yield from self._histograms()
        yield from self._process()

    def _server(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        from pipcook_deploy import __version__

        counts = self._counts
        yield InfoMetricFamily("pipcook_server", "The server.", {"version": __version__})
        yield GaugeMetricFamily("pipcook_workers", "Processes that answer.", counts["workers"])
        yield GaugeMetricFamily("pipcook_draining", "Processes that end.", counts["draining"])
        in_flight = "Requests that have begun and are not answered, this one included."
        yield GaugeMetricFamily("pipcook_in_flight_requests", in_flight, counts["in_flight"])
        lost = "Lines of the log that no one read in time."
        yield CounterMetricFamily("pipcook_lost_log_lines", lost, counts["lost_lines"])

    def _models(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        info = InfoMetricFamily("pipcook_model", "What runs a model, and why.", labels=MODEL)
        for model in self._counts["models"]:
            said = {key: model[key] for key in ("task", "engine", "platform", "chosen")}
            info.add_metric(_labels(model), said)
        yield info
        for name, text, value in GAUGES:
            gauge = GaugeMetricFamily(f"pipcook_{name}", text, labels=MODEL)
            for model in self._counts["models"]:
                gauge.add_metric(_labels(model), value(model))
            yield gauge
        for name, text, value in COUNTERS:
            counter = CounterMetricFamily(f"pipcook_{name}", text, labels=MODEL)
            for model in self._counts["models"]:
                counter.add_metric(_labels(model), value(model))
            yield counter

    def _histograms(self) -> "Iterator[Metric]":
        from prometheus_client.core import HistogramMetricFamily

        text = "From a request's head to its answer; model is empty where none was meant."
        name = "pipcook_request_duration_seconds"
        requests = HistogramMetricFamily(name, text, labels=(*MODEL, "status"))
        for status, counts in self._counts["requests"].items():
            _observed(requests, ["", "", status], counts, BOUNDS)
        text, name = "Time in one stage of a request.", "pipcook_stage_duration_seconds"
        stages = HistogramMetricFamily(name, text, labels=(*MODEL, "stage"))
        batches = HistogramMetricFamily(
            "pipcook_batch_size", "Samples per computation.", labels=MODEL
        )
        for model in self._counts["models"]:
            for status, counts in model["requests"].items():
                _observed(requests, [*_labels(model), status], counts, BOUNDS)
            for stage, counts in model["stages"].items():
                _observed(stages, [*_labels(model), stage], counts, BOUNDS)
            _observed(batches, _labels(model), model["batches"], BATCH_BOUNDS)
        yield from (requests, stages, batches)

    def _process(self) -> "Iterator[Metric]":
        """The sum of all processes; the start is the first one's."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for name, value in self._counts["process"].items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, name.replace("_", " ").capitalize() + ".", value)


def _text(shown: Exposed, openmetrics: bool) -> Answer:
    """One of two versions that every Prometheus reads, whatever else the client would take."""
    if openmetrics:
        from prometheus_client.openmetrics import exposition as newer

        text: bytes = newer.generate_latest(shown)  # type: ignore[no-untyped-call]
        return Answer(200, text, newer.CONTENT_TYPE_LATEST)
    from prometheus_client import exposition as plain

    return Answer(200, plain.generate_latest(shown), plain.CONTENT_TYPE_PLAIN_0_0_4)


def _labels(model: ModelCounts) -> list[str]:
    return [model["name"], model["version"]]


def _observed(
    family: "HistogramMetricFamily", labels: list[str], counts: Counts, bounds: Sequence[float]
) -> None:
    names = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    buckets = list(zip(names, accumulate(counts["counts"]), strict=True))
    family.add_metric(labels, buckets, counts["total"])


ROUTES: Routes = [("GET", "/metrics", metrics)]
