"""The table of compressions in the README, and the bars it is held to."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def compression(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("compression")


def case(**changes):
    row = {
        "format": "tfjs", "model": "prune 80% + fine-tuning", "precision": "uint8", "size": 93_000,
        "brotli": 24_800, "size_ratio": 0.27, "brotli_ratio": 0.08, "samples": 10_000,
        "source_accuracy": 0.9214, "accuracy": 0.9200, "drop": 0.0014,
    }  # fmt: skip
    rows = [row | changes | {"format": name} for name in ("tfjs", "onnx", "saved_model", "tflite")]
    return {"case": "fashion", "seconds": 600.0, "artifacts": rows}


def test_the_table_has_a_row_for_each_artifact_and_says_what_was_lost(compression):
    lines = compression.markdown([case()]).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert "| 24.8 kB, 1/12.5 | 93.0 kB, 0.27 | 92.00%, -0.14 |" in lines[2]
    assert "10,000" in lines[-1]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"brotli_ratio": 0.2}, ["TF.js: brotli"]),
        ({"size_ratio": 0.3}, ["ONNX: size", "TFLite: size"]),
        ({"drop": 0.006}, ["every artifact loses"]),
    ],
)
def test_a_missed_bar_is_a_missed_bar(compression, changes, missed):
    measured = case(**changes)
    found = [bar for bar, met in compression.BARS["fashion"].items() if not met(measured)]
    assert len(found) == len(missed)
    assert all(bar.startswith(start) for bar, start in zip(found, missed, strict=True))
