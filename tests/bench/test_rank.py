"""The ranking of what was timed."""

import pytest

from pipcook_deploy.bench.rank import rank
from pipcook_deploy.report.entries import BenchEntry


def entry(fmt, artifact, runtime, p50, batch=1, threads=2):
    return BenchEntry(
        format=fmt, artifact=artifact, precision="int8" if artifact == "compressed" else "float32",
        runtime=runtime, threads=threads, batch=batch, p50_ms=p50, p95_ms=p50 * 1.2,
        throughput=1000 * batch / p50, windows=(p50,) * 5, stable=True,
    )  # fmt: skip


def test_the_fastest_comes_first_and_speed_ups_compare_in_one_runtime():
    rows = rank(
        [
            entry("onnx", "float32", "onnxruntime", 4.0),
            entry("onnx", "compressed", "onnxruntime", 2.0),
            entry("onnx", "compressed", "openvino", 1.0),
            entry("tflite", "compressed", "litert", 3.0),
        ]
    )
    assert [(row.place, row.runtime, row.artifact, row.speed_up) for row in rows] == [
        (1, "openvino", "compressed", None),
        (2, "onnxruntime", "compressed", 2.0),
        (3, "litert", "compressed", None),
        (4, "onnxruntime", "float32", None),
    ]


def test_other_batches_and_threads_are_ranked_apart():
    rows = rank(
        [
            entry("onnx", "compressed", "onnxruntime", 9.0, batch=8),
            entry("onnx", "float32", "onnxruntime", 2.0, batch=1),
            entry("onnx", "compressed", "onnxruntime", 1.0, batch=1, threads=1),
        ]
    )
    assert [(row.threads, row.batch, row.place, row.speed_up) for row in rows] == [
        (1, 1, 1, None), (2, 1, 1, None), (2, 8, 1, None),
    ]  # fmt: skip


def test_equal_times_share_a_place_whatever_the_order_given():
    entries = [
        entry("tflite", "compressed", "litert", 1.0),
        entry("onnx", "compressed", "onnxruntime", 1.0),
        entry("onnx", "compressed", "openvino", 2.0),
    ]
    rows = rank(entries)
    assert [row.place for row in rows] == [1, 1, 3]
    assert rank(reversed(entries)) == rows


def test_nothing_timed_ranks_nothing():
    assert rank([]) == ()
    with pytest.raises(StopIteration):
        next(iter(rank(())))
