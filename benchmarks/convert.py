"""MobileNetV2 at 224 px to four formats: `deploy()`, verified, against the public tools one after the other.

    python benchmarks/convert.py [--json FILE] [--repeat N]

The public tools convert and do not verify. Both sides run in this one call, alternating; times are wall
seconds of whole processes, the median if repeated.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import Run, needed, timed, write_json

FORMATS = ("tfjs", "onnx", "saved_model", "tflite")

# Fresh weights let activations fade to nothing, and every output to 1/1000: one pass with the batch's own
# statistics gives batch norms values that keep the images apart, so that parity means something.
MAKE = """
import sys, keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.applications.MobileNetV2(weights=None, input_shape=(224, 224, 3))
norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
for norm in norms:
    norm.momentum = 0.0
model(np.random.default_rng(0).random((4, 224, 224, 3), "float32"), training=True)
for norm in norms:
    norm.momentum = 0.999
model.save(sys.argv[1])
"""

# VmHWM is the peak of this process alone: not of its children, not of what ran before exec.
OURS = """
import json, sys
from pipcook_deploy import deploy
deploy(sys.argv[1], to=sys.argv[3].split(","), out=sys.argv[2])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"peak": int(status["VmHWM"].split()[0]) / 1024, "tensorflow": "tensorflow" in sys.modules}))
"""

SAVED_MODEL = """
import sys, keras
keras.models.load_model(sys.argv[1]).export(sys.argv[2])
"""

TFLITE = """
import pathlib, sys
import tensorflow as tf
pathlib.Path(sys.argv[2]).write_bytes(tf.lite.TFLiteConverter.from_saved_model(sys.argv[1]).convert())
"""


def ours(model: Path, folder: Path) -> tuple[Run, dict[str, Any]]:
    """Our stage, and the parent's peak in MB."""
    out = folder / "bundle"
    run = needed(timed([sys.executable, "-c", OURS, model, out, ",".join(FORMATS)]), "deploy()")
    return run, json.loads(run.out.strip().splitlines()[-1])


def public(model: Path, folder: Path) -> dict[str, Run | None]:
    """Each public tool, one after the other; None for one that is not installed."""
    python, saved = sys.executable, folder / "saved_model"
    onnx: list[str | Path] = ["-m", "tf2onnx.convert", "--saved-model", saved, "--opset", "18"]
    runs: dict[str, Run | None] = {
        "saved_model": timed([python, "-c", SAVED_MODEL, model, saved]),
        "onnx": timed([python, *onnx, "--output", folder / "model.onnx"]),
        "tflite": timed([python, "-c", TFLITE, saved, folder / "model.tflite"]),
    }
    converter = reference_converter()
    runs["tfjs"] = None
    if converter is not None:
        runs["tfjs"] = timed([converter, "--input_format=tf_saved_model", saved, folder / "tfjs"])
    for name, run in runs.items():
        if run is not None:
            needed(run, f"the public tool for {name}")
    return runs


def reference_converter() -> Path | None:
    """tensorflowjs_converter of the isolated environment, if that is installed."""
    from pipcook_deploy import tools
    from pipcook_deploy.errors import MissingDependencyError

    try:
        return tools.reference_converter()
    except MissingDependencyError:
        return None


def compare(repeat: int) -> dict[str, Any]:
    """Alternate both sides `repeat` times."""
    own: list[Run] = []
    peaks: list[float] = []
    tools: dict[str, list[Run] | None] = {name: [] for name in FORMATS}
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "mobilenet_v2.keras"
        needed(timed([sys.executable, "-c", MAKE, model]), "making the model")
        for _ in range(repeat):
            folder = Path(name) / "run"
            folder.mkdir()
            run, facts = ours(model, folder)
            own.append(run)
            peaks.append(facts["peak"])
            for format, result in public(model, folder).items():
                times = tools[format]
                tools[format] = None if result is None or times is None else [*times, result]
            shutil.rmtree(folder)
    return summary(own, peaks, tools)


def summary(
    own: list[Run], peaks: list[float], tools: dict[str, list[Run] | None]
) -> dict[str, Any]:
    """Medians and ratios; `complete` says whether all public tools were there.

    `cpu_ratio` compares processor seconds: it hardly moves when the machine is busy with other work.
    """
    public_seconds = {name: runs and _median(runs) for name, runs in tools.items()}
    total = sum(seconds for seconds in public_seconds.values() if seconds)
    public_cpu = sum(_median_cpu(runs) for runs in tools.values() if runs)
    seconds, cpu = _median(own), _median_cpu(own)
    return {
        "model": "MobileNetV2 224x224",
        "runs": len(own),
        "ours_seconds": round(seconds, 2),
        "ours_cpu_seconds": round(cpu, 2),
        "ours_parent_peak_mb": round(max(peaks), 1),
        "public_seconds": {
            name: value and round(value, 2) for name, value in public_seconds.items()
        },
        "public_total_seconds": round(total, 2),
        "public_cpu_seconds": round(public_cpu, 2),
        "complete": all(public_seconds.values()),
        "ratio": round(seconds / total, 3),
        "cpu_ratio": round(cpu / public_cpu, 3),
    }


def _median(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def _median_cpu(runs: list[Run]) -> float:
    return statistics.median(run.cpu for run in runs)


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{result['model']}, median of {result['runs']}")
    for name, seconds in result["public_seconds"].items():
        text = "not installed: make test-reference" if seconds is None else f"{seconds:8.1f} s"
        print(f"  public tool, {name:<12} {text}")
    print(f"  public tools, together    {result['public_total_seconds']:8.1f} s")
    print(f"  deploy(), verified        {result['ours_seconds']:8.1f} s", end="")
    print(f"   (parent's peak {result['ours_parent_peak_mb']:.0f} MB)")
    without = "" if result["complete"] else " (without the tool that is not installed)"
    print(f"  ratio                     {result['ratio']:8.2f}{without}")
    print(f"  ratio of processor time   {result['cpu_ratio']:8.2f}")


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    result = compare(arguments.repeat)
    show(result)
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
