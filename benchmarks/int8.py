"""MobileNetV2 and ResNet50 at 224 px (random weights): our int8 ONNX file in ONNX Runtime and in OpenVINO.

    python benchmarks/int8.py [--json FILE] [--seconds N] [--threads N] [--keep DIR]

Batch 1, all contestants in turns in one process. A machine that does other work makes times longer, never
shorter: the ratios are of the smallest times, the medians tell how busy it was. The bars were set on a processor
with AMX; AVX512-VNNI alone multiplies int8 at most four times as fast as float32.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import needed, timed, write_json

MODELS = ("MobileNetV2", "ResNet50")
BARS = {
    ("MobileNetV2", "onnxruntime int8"): 1.5,
    ("ResNet50", "onnxruntime int8"): 2.5,
    ("MobileNetV2", "openvino int8"): 1.9,
    ("ResNet50", "openvino int8"): 5.0,
}
BASE = "onnxruntime float32"
CALLS = 3  # in a row: the first after another engine finds cold caches and spinning threads
SAMPLES = 16

# Batch norms get the statistics of random pictures: with those of fresh weights activations fade to zero.
MAKE = """
import sys
import keras, numpy as np
keras.utils.set_random_seed(0)
model = getattr(keras.applications, sys.argv[1])(weights=None, input_shape=(224, 224, 3))
norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
for norm in norms:
    norm.momentum = 0.0
pictures = np.random.default_rng(0).random((4, 224, 224, 3), "float32")
model(pictures, training=True)
for norm in norms:
    norm.momentum = 0.999
model.export(sys.argv[2])
"""

CONVERT = """
import sys
from pathlib import Path
import numpy as np
from pipcook_deploy.converters.to_onnx import OnnxConverter
from pipcook_deploy.sources.graph_sources import load_onnx, load_saved_model
folder = Path(sys.argv[1])
source = load_saved_model(folder / "saved_model", False, None)
pictures = np.random.default_rng(1).random((int(sys.argv[2]), 224, 224, 3), "float32")
np.savez(folder / "calibration.npz", **{source.spec.inputs[0].name: pictures})
for precision in ("float32", "int8"):
    (folder / precision).mkdir()
    calibration = folder / "calibration.npz"
    OnnxConverter(precision=precision, calibration=calibration).convert(source, folder / precision)
"""


def build(name: str, folder: Path) -> None:
    """The SavedModel, and `float32/model.onnx` and `int8/model.onnx` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "int8" / "model.onnx").exists():
        python = sys.executable
        needed(timed([python, "-c", MAKE, name, folder / "saved_model"]), f"building {name}")
        needed(timed([python, "-c", CONVERT, folder, str(SAMPLES)]), f"converting {name}")


def contestants(folder: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """What is timed, each opened once."""
    import numpy as np

    from pipcook_deploy.artifact import Artifact, Binding
    from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
    from pipcook_deploy.runtimes.openvino_runtime import OpenVinoRuntime
    from pipcook_deploy.sources.graph_sources import load_onnx

    picture = np.random.default_rng(2).random((1, 224, 224, 3), "float32")
    calls = {}
    for precision in ("float32", "int8"):
        spec = load_onnx(folder / precision / "model.onnx", False, None).spec
        inputs, outputs = (
            tuple(Binding(t.name, t.name, t.dtype, t.shape) for t in tensors)
            for tensors in (spec.inputs, spec.outputs)
        )
        artifact = Artifact(
            "onnx", "onnx", folder / precision, "model.onnx", inputs, outputs, precision
        )
        for runtime in (OnnxRuntime(), OpenVinoRuntime()):
            session = runtime.session(artifact, threads)
            fed = {inputs[0].name: picture}
            calls[f"{runtime.label} {precision}"] = lambda call=session, fed=fed: call(fed)
    return calls


def in_turns(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of every call but the first of each turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 2 * CALLS:
        for name, call in calls.items():
            call()
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def summary(model: str, folder: Path, times: dict[str, list[float]]) -> dict[str, Any]:
    """Smallest and median times, and how many times faster than float32 in ONNX Runtime."""
    base = times[BASE]
    rows = {}
    for name, values in times.items():
        bar = BARS.get((model, name))
        ratio = min(base) / min(values)
        rows[name] = {
            "min_ms": round(min(values), 3),
            "median_ms": round(statistics.median(values), 3),
            "runs": len(values),
            "ratio": round(ratio, 2),
            "median_ratio": round(statistics.median(base) / statistics.median(values), 2),
            "bar": bar,
            "met": None if bar is None else ratio >= bar,
        }
    sizes = {p: (folder / p / "model.onnx").stat().st_size for p in ("float32", "int8")}
    return {"rows": rows, "bytes": sizes}


def machine() -> dict[str, Any]:
    """What decides how fast int8 can be."""
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    features = [name for name in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8") if name in words]
    return {"cores": os.cpu_count(), "features": features}


def show(result: dict[str, Any]) -> None:
    """The tables."""
    facts = result["machine"]
    print(f"{facts['cores']} cores, {', '.join(facts['features'])}; {result['threads']} threads")
    for model, found in result["models"].items():
        small, large = found["bytes"]["int8"], found["bytes"]["float32"]
        print(f"{model}: {large / 1e6:.1f} MB, int8 {small / 1e6:.1f} MB ({small / large:.3f})")
        for name, row in found["rows"].items():
            bar = (
                ""
                if row["bar"] is None
                else f"   bar {row['bar']}x: " + ("met" if row["met"] else "NOT met")
            )
            print(
                f"  {name:<20} min {row['min_ms']:7.2f} ms  median {row['median_ms']:7.2f} ms"
                f"  {row['ratio']:5.2f}x (medians {row['median_ratio']:5.2f}x, {row['runs']} runs){bar}"
            )
    print("times of a shared machine: smallest of many, engines in turns")


def main() -> None:
    """Build, time, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=30, help="per model")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--keep", type=Path, help="folder of the models, made if they are not there"
    )
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "machine": machine(), "threads": arguments.threads, "models": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            folder = (arguments.keep or Path(scratch)) / model
            build(model, folder)
            times = in_turns(contestants(folder, arguments.threads), arguments.seconds)
            result["models"][model] = summary(model, folder, times)
    show(result)
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
