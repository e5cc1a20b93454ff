"""A report as a search of the example would give it: three formats, many candidates, real pictures."""

import base64
import math
from pathlib import Path

import numpy as np

from pipcook_deploy.report.entries import (
    BenchEntry,
    CandidateEntry,
    ClassEntry,
    FlipCounts,
    FlipEntry,
    HistogramEntry,
    IntervalEntry,
    LayerEntry,
    ProofEntry,
    Report,
    SplitEntry,
)
from pipcook_deploy.report.pareto import mark_front

SAMPLES = Path(__file__).parents[2] / "examples/fashion-mnist/samples"
LABELS = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FORMATS = {
    "tfjs": (("float32", 1.0), ("float16", 0.49), ("uint16", 0.47), ("uint8", 0.22)),
    "onnx": (("float32", 1.0), ("float16", 0.5), ("int8", 0.27)),
    "tflite": (("float32", 1.0), ("dynamic", 0.27), ("int8", 0.26)),
}
PASSES = (
    ("source", 0.0, 0.0),
    ("prune 60 % + fine-tune", 0.6, 0.0008),
    ("prune 80 % + fine-tune", 0.8, 0.0025),
)
DAMAGE = {
    "float32": 0.0,
    "float16": 0.0,
    "uint16": 0.0001,
    "uint8": 0.0011,
    "dynamic": 0.0009,
    "int8": 0.0022,
}


def made_report(pictures: int = 24, layers: int = 40) -> Report:
    """The whole report; everything in it comes from a seed."""
    rng = np.random.default_rng(7)
    candidates = _candidates(rng)
    return Report(
        name="fashion-mnist",
        version="1.2.0",
        metric="accuracy",
        max_drop=0.005,
        goal="size",
        seed=0,
        seconds=541.3,
        samples_are="images",
        splits=tuple(
            SplitEntry(name=name, count=count, sha256=f"{number:x}" * 64)
            for number, (name, count) in enumerate(
                [("train", 48_000), ("calibration", 512), ("selection", 5_000), ("verdict", 5_000)], 10
            )
        ),
        bad_samples=("Coat/0712.png: is not an image", "Dress/._0001.png: is empty"),
        source=interval(0.9213, 0.0075),
        candidates=mark_front(candidates),
        winners={"tfjs": "tfjs-11", "tflite": "tflite-8"},
        why={
            "tfjs": "the smallest of the 7 candidates inside the budget",
            "tflite": "the smallest of the 5 candidates inside the budget",
            "onnx": "no candidate keeps 0.5 points; the best one would with max_drop = 0.0058",
        },
        classes=_classes(rng),
        layers=_layers(rng, layers),
        flips=_flips(rng, pictures),
        flip_counts={"tfjs": FlipCounts(lost=41, mended=29, other=12), "tflite": FlipCounts(lost=8, mended=6)},
        bench=_bench(),
        notes=(
            "the first and the last layer were not pruned",
            "ONNX float16 is slower than float32 on this processor",
        ),
    )  # fmt: skip


def interval(value: float, half: float) -> IntervalEntry:
    return IntervalEntry(value=value, low=value - half, high=value + half)


def _candidates(rng):
    rows = []
    for name, precisions in FORMATS.items():
        number = 0
        for precision, share in precisions:
            for passes, sparsity, cost in PASSES:
                drop = DAMAGE[precision] + cost + float(rng.normal(0, 0.0004)) * (number > 0)
                if name == "onnx" and number:
                    drop += 0.0055
                wire = int(313_000 * share * (1 - 0.72 * sparsity))
                rows.append(
                    _candidate(name, number, passes, precision, drop, wire, share, sparsity)
                )
                number += 1
    collapsed = rows[-1].model_copy(
        update={"id": "tflite-9", "model": "per-tensor", "score": interval(0.31, 0.013),
                "drop": interval(0.611, 0.013), "verdict": "out of budget",
                "proof": None}
    )  # fmt: skip
    failed = CandidateEntry(
        id="tflite-10", format="tflite", model="source", precision="int16x8", verdict="failed",
        reason="LiteRT has no kernel for int16 SOFTMAX", seconds=1.2,
    )  # fmt: skip
    return [*rows, collapsed, failed]


def _candidate(name, number, passes, precision, drop, wire, share, sparsity):
    identity = f"{name}-{number}"
    won = identity in ("tfjs-11", "tflite-8")
    drop = 0.002 if won else drop
    verdict = "winner" if won else "in budget" if drop <= 0.005 else "out of budget"
    proof = ProofEntry(
        source=interval(0.9213, 0.0075), score=interval(0.9193, 0.0076),
        drop=IntervalEntry(value=0.002, low=-0.001, high=0.0048), samples=5000,
    )  # fmt: skip
    return CandidateEntry(
        id=identity, format=name, model=passes, precision=precision, options={"per_channel": True},
        size=int(345_000 * share), wire_size=wire, sparsity=sparsity, score=interval(0.9232 - drop, 0.0075),
        drop=interval(drop, 0.0029), samples=5000, latency_ms=(1.9 if name == "tfjs" else 0.21) * (0.5 + share / 2),
        verdict=verdict, seconds=11.5, proof=proof if won else None,
        reason=None if drop <= 0.005 else f"loses {drop * 100:.2f} points",
    )  # fmt: skip


def _classes(rng):
    rows = []
    for label in LABELS:
        before = float(np.clip(rng.normal(0.92, 0.05), 0.7, 0.99))
        changes = rng.normal(-0.002, 0.008, 2)
        after = {
            n: round(before + float(c), 3) for n, c in zip(("tfjs", "tflite"), changes, strict=True)
        }
        rows.append(ClassEntry(label=label, samples=500, before=round(before, 3), after=after))
    return tuple(rows)


def _layers(rng, count):
    rows = []
    for number in range(count):
        weights = rng.normal(0, 0.2 / math.sqrt(number + 1), 2000)
        edge = float(np.abs(weights).max())
        sparsity = 0.0 if number in (0, count - 1) else float(rng.choice([0.6, 0.8, 0.9]))
        kept = np.where(np.abs(weights) > np.quantile(np.abs(weights), sparsity), weights, 0)
        rows.append(
            LayerEntry(
                name=f"block_{number // 4}/conv_{number % 4}", kind="Conv2D", shape=(3, 3, 32, 64),
                parameters=int(18_432 * (1 + number % 5)), sparsity=sparsity,
                precision={"tfjs": "uint8", "tflite": "float32" if number == 3 else "int8"},
                sensitivity={
                    "prune 70 %": float(10 ** rng.uniform(-5, -1)),
                    "prune 90 %": float(10 ** rng.uniform(-4, 0)),
                    "8 bits": float(10 ** rng.uniform(-6, -3)),
                    "4 bits": float(10 ** rng.uniform(-4, -1)),
                },
                before=_histogram(weights, edge), after=_histogram(kept, edge),
            )
        )  # fmt: skip
    return tuple(rows)


def _histogram(weights, edge):
    counts, edges = np.histogram(weights, bins=32, range=(-edge, edge))
    return HistogramEntry(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _flips(rng, count):
    files = sorted(SAMPLES.rglob("*.png"))
    rows = []
    for number in range(count):
        path = files[number * 7 % len(files)]
        truth = path.parent.name
        other = str(rng.choice([label for label in LABELS if label != truth]))
        before, after = (truth, other) if number < count * 2 // 3 else (other, truth)
        rows.append(
            FlipEntry(
                format="tfjs", origin=f"{truth}/{path.name}", truth=truth,
                picture=base64.b64encode(path.read_bytes()).decode(),
                before=before, before_score=float(rng.uniform(0.4, 0.7)),
                after=after, after_score=float(rng.uniform(0.4, 0.7)),
            )
        )  # fmt: skip
    mail = "Subject: Re: [ILUG] kernel options\n\nHi all, does anyone know whether " * 4
    rows.append(
        FlipEntry(format="tflite", origin="easy-ham/00012.json", text=mail, truth="ham",
                  before="ham", before_score=0.52, after="spam", after_score=0.55)
    )  # fmt: skip
    return tuple(rows)


def _bench():
    times = [
        ("onnx", "float32", "float32", "onnxruntime", 0.21, True), ("onnx", "compressed", "int8", "onnxruntime", 0.11, True),
        ("onnx", "float32", "float32", "openvino", 0.17, True), ("onnx", "compressed", "int8", "openvino", 0.07, False),
        ("tflite", "float32", "float32", "litert", 0.19, True), ("tflite", "compressed", "int8", "litert", 0.09, True),
        ("tfjs", "float32", "float32", "tfjs-wasm", 1.93, True), ("tfjs", "compressed", "uint8", "tfjs-wasm", 1.91, True),
    ]  # fmt: skip
    return tuple(
        BenchEntry(
            format=name, artifact=artifact, precision=precision, runtime=runtime, threads=2, batch=1,
            p50_ms=time, p95_ms=time * 1.3, throughput=1000 / time, windows=(time,) * 5, stable=stable,
        )
        for name, artifact, precision, runtime, time, stable in times
    )  # fmt: skip
