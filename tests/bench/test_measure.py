"""Timing of real artifacts: structure, never times."""

import numpy as np
import pytest

from pipcook_deploy import plugins
from pipcook_deploy.bench.measure import compare, first_samples, measure, timed_runtimes
from pipcook_deploy.bench.options import BenchOptions, available_cores
from pipcook_deploy.errors import UnsupportedRuntimeError
from pipcook_deploy.report.entries import BenchEntry
from pipcook_deploy.runtime import Runtime
from pipcook_deploy.tensors import save_tensors

ARTIFACT = {
    "format": "toy", "model_format": "toy_file", "path": "/nowhere", "entry": "a", "precision": "int8",
    "inputs": [], "outputs": [], "details": {},
}  # fmt: skip


class ToyRuntime(Runtime):
    """Answers at once, and remembers what it was asked."""

    name = "toy"
    formats = ("toy_file",)
    seen: list = []  # noqa: RUF012

    def run_artifact(self, artifact, inputs):
        raise AssertionError("nothing here calls it")

    def run_model(self, model, inputs):
        raise AssertionError("nothing here calls it")

    def session(self, artifact, threads):
        self.seen.append(threads)
        return lambda inputs: self.seen.append(inputs["x"].shape)


class ClosedRuntime(ToyRuntime):
    """Has no way to keep a model open."""

    name = "closed"
    session = Runtime.session


class FarRuntime(ClosedRuntime):
    """Times itself elsewhere."""

    name = "far"

    def time_calls(self, artifact, inputs, *, seconds, warm_up):
        self.seen.append((inputs["x"].shape, warm_up))
        return [2.0, 3.0, 4.0]


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(plugins, "runtimes", lambda: [ClosedRuntime, ToyRuntime, FarRuntime])
    monkeypatch.setattr(ToyRuntime, "seen", [])


@pytest.fixture
def inputs(tmp_path):
    save_tensors(tmp_path / "inputs", {"x": np.arange(6, dtype=np.float32).reshape(3, 2)})
    return tmp_path / "inputs"


def test_a_measurement_is_an_entry_of_the_report(toys, inputs):
    row = measure(ARTIFACT, "toy", str(inputs), threads=2, batch=4, seconds=0.01, warm_up=0)
    entry = BenchEntry.model_validate(row)
    assert (entry.format, entry.artifact, entry.precision) == ("toy", "compressed", "int8")
    assert (entry.runtime, entry.threads, entry.batch) == ("toy", 2, 4)
    assert len(entry.windows) >= 5
    assert entry.p50_ms <= entry.p95_ms
    assert ToyRuntime.seen[0] == 2
    assert set(ToyRuntime.seen[1:]) == {(4, 2)}


def test_contestants_are_opened_once_each(toys, inputs):
    rows = compare(
        [{"artifact": ARTIFACT, "runtime": "toy", "kind": kind} for kind in ("float32", "compressed")],
        str(inputs), threads=1, batch=1, seconds=0.01, warm_up=0,
    )  # fmt: skip
    assert [row["artifact"] for row in rows] == ["float32", "compressed"]
    assert ToyRuntime.seen.count(1) == 2


def test_a_runtime_that_times_itself_is_asked_for_each_window_and_has_one_thread(toys, inputs):
    entry = BenchEntry.model_validate(
        measure(ARTIFACT, "far", str(inputs), threads=2, batch=2, seconds=1, warm_up=0.5)
    )
    assert ToyRuntime.seen == [((2, 2), 0.5)] * 5
    assert (entry.threads, entry.p50_ms, entry.p95_ms, entry.stable) == (1, 3.0, 4.0, True)
    assert entry.throughput == pytest.approx(2 / 0.003, rel=1e-4)


def test_samples_are_repeated_to_fill_a_batch(inputs):
    assert first_samples(inputs, 2)["x"].tolist() == [[0, 1], [2, 3]]
    assert first_samples(inputs, 5)["x"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]


def test_only_runtimes_that_keep_models_open_are_timed(toys, inputs):
    assert timed_runtimes("toy_file") == ("toy", "far")
    assert timed_runtimes("onnx") == ()
    with pytest.raises(UnsupportedRuntimeError, match="keeps no model open"):
        measure(ARTIFACT, "closed", str(inputs), 1, 1, 0.01)
    with pytest.raises(UnsupportedRuntimeError, match="no installed runtime 'tpu'"):
        measure(ARTIFACT, "tpu", str(inputs), 1, 1, 0.01)


def test_options_count_the_cores_that_may_be_used():
    assert BenchOptions().used_threads == available_cores() >= 1
    assert BenchOptions(threads=3).used_threads == 3
    with pytest.raises(ValueError, match="at least 1 item"):
        BenchOptions(batch_sizes=())
