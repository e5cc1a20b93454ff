"""/metrics as Prometheus' own parsers read it, and the sum over several processes."""

import asyncio
import copy
import json

import httpx
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from pipcook_deploy.server.models.registry import Registry
from pipcook_deploy.server.observe import prometheus
from pipcook_deploy.server.observe.metrics import BOUNDS, Histogram, ModelMetrics
from pipcook_deploy.server.observe.snapshot import merge
from tests.server import tiny_models

HOSTILE = 'a"b\\c{d="e"}'
OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tiny_models.logarithm(tmp_path_factory.mktemp("m"))
    with tiny_models.client_of(folder) as connected:
        yield connected


def samples(client, accept="", parse=plain):
    answer = client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(answer.text)
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((name, frozenset(labels.items())), 0.0)


def infer(client, **more):
    return client.post("/v2/models/logarithm/infer", json={"inputs": [TENSOR]} | more).status_code


@pytest.mark.parametrize(
    ("accept", "parse", "kind"),
    [
        ("", plain, "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=xyz", plain, "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, openmetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text; version=abc",
            openmetrics,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_both_formats_are_valid(client, accept, parse, kind):
    assert infer(client) == 200
    answer = client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    families = list(parse(answer.text))
    assert len({family.name for family in families}) == len(families)
    assert {"pipcook_request_duration_seconds", "pipcook_batch_size", "pipcook_model"} <= {
        family.name.removesuffix("_info") for family in families
    }


def test_requests_are_counted_by_model_and_status(client):
    of = {"model": "logarithm", "version": "1"}
    name = "pipcook_request_duration_seconds_count"
    before = samples(client)
    assert [infer(client) for _ in range(3)] == [200] * 3
    assert infer(client, inputs=[]) == 400
    assert client.get("/nowhere").status_code == 404
    after = samples(client)

    def grown(**labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown(**of, status="200") == 3 and grown(**of, status="400") == 1
    assert grown(model="", version="", status="404") == 1
    stage = "pipcook_stage_duration_seconds_count"
    assert (
        value(after, stage, **of, stage="compute")
        == value(before, stage, **of, stage="compute") + 3
    )
    assert value(after, "pipcook_in_flight_requests") == 1
    assert value(after, "process_open_fds") > 3
    assert value(after, "process_resident_memory_bytes") > 1e6


def test_buckets_are_cumulative_and_end_with_all(client):
    infer(client)
    of = {"model": "logarithm", "version": "1", "status": "200"}
    found = samples(client)
    name = "pipcook_request_duration_seconds"
    counts = [value(found, f"{name}_bucket", **of, le=repr(bound)) for bound in BOUNDS]
    last = value(found, f"{name}_bucket", **of, le="+Inf")
    assert counts == sorted(counts) and counts[-1] <= last == value(found, f"{name}_count", **of)
    assert last > 0 and value(found, f"{name}_sum", **of) > 0


def test_a_value_on_a_bound_belongs_to_its_bucket():
    histogram = Histogram()
    for seconds in (BOUNDS[0], BOUNDS[0] * 1.01, 1e9):
        histogram.observe(seconds)
    assert histogram.counts[0] == 1 and histogram.counts[1] == 1 and histogram.counts[-1] == 1


def counted(name="m", depth=1):
    """A snapshot of a process with one model and a few requests."""
    metrics = ModelMetrics()
    metrics.requests[200].observe(0.002)
    metrics.stage("compute", 0.001)
    metrics.batches.observe(4)
    histograms = {"200": {"counts": metrics.requests[200].counts, "total": 0.002}}
    return {
        "workers": 1, "draining": 0, "in_flight": 2, "lost_lines": 0, "requests": histograms,
        "process": {"process_resident_memory_bytes": 10.0, "process_start_time_seconds": 5.0 + depth},
        "models": [{
            "name": name, "version": "1", "task": "t", "engine": "e", "platform": "p",
            "chosen": "fast\nest", "threads": 1, "streams": 1, "max_batch": 1, "workers": 1,
            "depth": depth, "pending": 1, "refused": 3, "expired": 0,
            "requests": copy.deepcopy(histograms), "stages": copy.deepcopy(histograms),
            "batches": {"counts": list(metrics.batches.counts), "total": 4.0},
            "executions": 2, "samples": 5, "last": 7.0 + depth,
        }],
    }  # fmt: skip


def test_workers_are_summed_and_left_as_they_were():
    one, other, third = counted(depth=1), counted(depth=2), counted("n")
    kept = copy.deepcopy([one, other, third])
    whole = merge(json.loads(json.dumps([one, other, third])))
    assert whole["workers"] == 3 and whole["in_flight"] == 6
    assert sum(whole["requests"]["200"]["counts"]) == 3
    assert whole["process"] == {
        "process_resident_memory_bytes": 30.0,
        "process_start_time_seconds": 6.0,
    }
    m, n = whole["models"]
    assert (m["workers"], m["depth"], m["refused"]) == (2, 3, 6)
    assert sum(m["batches"]["counts"]) == 2 and m["batches"]["total"] == 8.0
    assert (m["executions"], m["samples"], m["last"]) == (4, 10, 9.0)
    assert (n["name"], n["workers"], n["depth"]) == ("n", 1, 1)
    merge([one, other, third])
    assert [one, other, third] == kept


def test_merging_is_the_same_in_any_order():
    parts = [counted(depth=depth) for depth in (3, 1, 2)]
    assert merge(parts) == merge([merge(parts[:2]), parts[2]]) == merge(parts[::-1])


@pytest.mark.parametrize("parse", [plain, openmetrics])
def test_hostile_names_are_escaped(parse):
    name = HOSTILE + "\n# TYPE x counter\nx 1"
    answer = prometheus._text(
        prometheus.Exposed(merge([counted(name)])), openmetrics=parse is openmetrics
    )
    found = [
        sample.labels
        for family in parse(answer.body.decode())
        for sample in family.samples
        if sample.name == "pipcook_queue_depth"
    ]
    assert found == [{"model": name, "version": "1"}]


def test_other_workers_are_asked(tmp_path):
    from pipcook_deploy.server.app import Context
    from pipcook_deploy.server.observe.metrics import ServerMetrics
    from pipcook_deploy.server.settings import Settings

    class Asking:
        def header(self, name):
            return ""

    async def others():
        return [counted(), counted()]

    context = Context(Registry(), Settings(preparers=1), ServerMetrics())
    context.peers = others
    answer = asyncio.run(prometheus.metrics(context, Asking()))
    context.close()
    families = {family.name: family for family in plain(answer.body.decode())}
    assert families["pipcook_workers"].samples[0].value == 3
    assert families["pipcook_queue_depth"].samples[0].value == 2


def test_counting_while_metrics_are_read(client):
    """Reading races with counting: every answer stays whole."""
    with httpx.Client(base_url=client.base_url) as second:
        for _ in range(20):
            infer(second)
            assert samples(client, OPENMETRICS, openmetrics)


def test_observing_is_cheap_enough_to_be_everywhere():
    """Not a time: no allocation grows with the number of requests."""
    histogram = Histogram()
    size = len(histogram.counts)
    for seconds in np.linspace(0, 20, 1000):
        histogram.observe(float(seconds))
    assert len(histogram.counts) == size and sum(histogram.counts) == 1000
