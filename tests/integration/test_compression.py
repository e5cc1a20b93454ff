"""A whole search, from a trained model and labelled images to a bundle of smaller artifacts."""

import json
import shutil

import pytest

from pipcook_deploy import Bundle, deploy, verify_bundle
from pipcook_deploy.errors import BudgetError
from pipcook_deploy.schedule import Listener
from tests.fashion import DATA, EXAMPLE, LABELS, PREPROCESSING

BUDGET = {"max_drop": 0.02, "sparsities": (0.3,), "explore": 0}


def _deploy(out, **changes):
    arguments = {
        "to": ("onnx", "tflite"),
        "labels": LABELS,
        "preprocessing": PREPROCESSING,
        "task": "image-classification",
        "samples": EXAMPLE / "samples",
        "sample_options": {"limit": 40},
        "data": DATA | {"limit": 600},
        "budget": BUDGET,
        "bench": {"enabled": False},
    }
    source = changes.pop("source", EXAMPLE / "model.keras")
    return deploy(source, out=out, **(arguments | changes))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    place = tmp_path_factory.mktemp("compression")
    return _deploy(place / "small", to=("tfjs", "onnx", "tflite"), bench={"seconds": 0.2})


@pytest.mark.heavy
@pytest.mark.node
def test_artifacts_are_smaller_and_blessed_by_samples_that_the_search_never_saw(small):
    report = json.loads((small.path / "report" / "report.json").read_text())
    counts = {row["name"]: row["count"] for row in report["splits"]}
    for entry in small.manifest.artifacts:
        done = entry.compression
        assert entry.wire_size < 0.5 * done.float_wire_size, entry.format
        blessed = done.blessed_by
        assert blessed.metric == "accuracy"
        assert blessed.drop.value <= 0.02
        assert blessed.drop.low <= blessed.drop.value <= blessed.drop.high
        assert blessed.value.value == pytest.approx(blessed.source.value - blessed.drop.value)
        assert blessed.samples == counts["verdict"] == 300
        assert 0.85 < blessed.source.value < 0.97
        verdict = next(row for row in report["splits"] if row["name"] == "verdict")
        assert blessed.data_sha256 == verdict["sha256"]


@pytest.mark.heavy
@pytest.mark.node
def test_a_compressed_bundle_is_verified_by_its_own_answers(small, tmp_path):
    results = verify_bundle(small.path)
    assert {row.status for rows in results.values() for row in rows} == {"passed"}
    damaged = shutil.copytree(small.path, tmp_path / "damaged")
    (damaged / "report" / "report.html").write_text("all is well")
    with pytest.raises(Exception, match=r"report\.html: was changed"):
        verify_bundle(damaged)


@pytest.mark.heavy
@pytest.mark.node
def test_the_bundle_tells_how_fast_each_artifact_is(small):
    rows = small.manifest.bench
    runtimes = {(row.format, row.runtime, row.artifact) for row in rows}
    for kind in ("float32", "compressed"):
        assert ("onnx", "onnxruntime", kind) in runtimes
        assert ("tflite", "litert", kind) in runtimes
        assert ("tfjs", "tfjs-wasm", kind) in runtimes
    assert all(0 < row.p50_ms <= row.p95_ms for row in rows)
    assert [row.p50_ms for row in rows] == sorted(row.p50_ms for row in rows)


@pytest.mark.heavy
@pytest.mark.node
def test_nothing_is_left_beside_the_bundle(small):
    assert [path.name for path in small.path.parent.iterdir()] == [small.path.name]
    assert "## Compression" in (small.path / "MODEL_CARD.md").read_text()


class _Stopped(Listener):
    """Interrupts the program when a step begins."""

    def __init__(self, at):
        self.at, self.begun = at, []

    def started(self, name):
        self.begun.append(name)
        if name == self.at:
            raise KeyboardInterrupt


class _Counted(Listener):
    def __init__(self):
        self.notes = []

    def noted(self, text):
        self.notes.append(text)


@pytest.mark.heavy
def test_an_interrupted_search_goes_on_and_ends_like_one_that_was_not(tmp_path):
    onnx = {"to": ("onnx",), "options": {"onnx": {"precision": "int8"}}}
    with pytest.raises(KeyboardInterrupt) as stopped:
        _deploy(tmp_path / "b", **onnx, listener=_Stopped("search onnx"))
    assert "run the same again to go on" in stopped.value.__notes__[0]
    left = tmp_path / ".b.search" / "results.jsonl"
    before = left.read_text().count("\n")
    assert not (tmp_path / "b").exists()
    second = _Counted()
    resumed = _deploy(tmp_path / "b", **onnx, listener=second)
    assert second.notes == [f"goes on with {before} results of an earlier run"]
    assert before > 3
    assert not left.exists()
    whole = _deploy(tmp_path / "c", **onnx)
    assert _hashes(resumed) == _hashes(whole)


def _hashes(bundle: Bundle):
    return {f.path: f.sha256 for entry in bundle.manifest.artifacts for f in entry.files}


@pytest.mark.heavy
def test_a_budget_that_the_data_cannot_measure_is_refused_at_once(tmp_path):
    with pytest.raises(
        BudgetError, match=r"cannot be measured on 300 samples.*needs about"
    ) as caught:
        _deploy(tmp_path / "b", budget={"max_drop": 0.005})
    assert caught.value.exit_code == 10
    assert not (tmp_path / "b").exists()


@pytest.mark.heavy
def test_what_loses_too_much_is_not_bundled_and_the_best_is_told(tmp_path):
    with pytest.raises(BudgetError, match="tflite: nothing keeps the budget of 2 points") as caught:
        _deploy(
            tmp_path / "b",
            to=("tflite",),
            passes=[{"pass": "prune", "sparsity": 0.9, "epochs": 0}],
        )
    assert "the best, prune in " in caught.value.message
    assert "ask less of [[compress]]" in caught.value.hint
    assert "max_drop =" in caught.value.hint
    assert "report.html" in caught.value.hint
    assert not (tmp_path / "b").exists()
    assert (tmp_path / ".b.search" / "report" / "report.json").exists()


@pytest.mark.heavy
def test_passes_without_a_budget_are_applied_and_measured(tmp_path):
    bundle = _deploy(
        tmp_path / "b",
        to=("tflite",),
        budget=None,
        passes=[{"pass": "prune", "sparsity": 0.9, "epochs": 0}, {"pass": "cluster", "k": 16}],
    )
    (entry,) = bundle.manifest.artifacts
    assert entry.chain == ("keras", "prune", "cluster", "saved_model", "tflite")
    assert entry.compression.sparsity > 0.8
    assert entry.compression.blessed_by.drop.value > 0.1  # nothing was refused
    assert entry.compression.blessed_by.max_drop is None
