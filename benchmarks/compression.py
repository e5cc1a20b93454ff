"""Compression inside an accuracy budget, on real data, against the bars that this project set itself.

    python benchmarks/compression.py [fashion] [collapse] [spam] [--json FILE] [--readme FILE]

Each case runs its recipe as a user would, then asks every artifact of the bundle all evaluation samples again,
through the runtime that will run it: what the search saw, and what only the verdict saw.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import ROOT, put_into, write_json

from pipcook_deploy import Bundle
from pipcook_deploy.api import opened, run_recipe, with_recipe
from pipcook_deploy.cli.progress import watched
from pipcook_deploy.data.prepare import prepare_data
from pipcook_deploy.jobs.workers import Workers
from pipcook_deploy.recipe import Recipe, read_recipe
from pipcook_deploy.tensors import load_tensors

RECIPES = {
    "fashion": ROOT / "examples/fashion-mnist/compress.toml",
    "collapse": ROOT / "examples/collapse/deploy.toml",
    "spam": ROOT / "examples/spam/deploy.toml",
}
DATA = "../../dist/data"
ALL_IMAGES = (  # of the test set; the recipes bring the first 4,500
    f"data.evaluation={DATA}/t10k-images-idx3-ubyte.gz",
    f"data.evaluation_labels={DATA}/t10k-labels-idx1-ubyte.gz",
    "data.selection=0.5",
)
SETTINGS = {
    "fashion": (*ALL_IMAGES, f"data.train={DATA}/train-images-idx3-ubyte.gz"),
    "collapse": ALL_IMAGES,
}
Row = dict[str, Any]


def run_case(name: str) -> Row:
    """Run a recipe; sizes and accuracies of its artifacts, over all evaluation samples."""
    recipe = read_recipe(RECIPES[name], SETTINGS.get(name, ()))
    started = time.monotonic()
    with watched() as listener:
        bundle = run_recipe(recipe, listener=listener)
    seconds = time.monotonic() - started
    return {"case": name, "seconds": round(seconds, 1), "artifacts": _artifacts(recipe, bundle)}


def _artifacts(recipe: Recipe, bundle: Bundle) -> list[Row]:
    assert recipe.data is not None
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch, Workers(Path(scratch)) as workers:
        folder = Path(scratch) / "data"
        # The whole evaluation set as one split, but for a single sample that the other split must have.
        every = recipe.data.model_copy(update={"train": None, "train_labels": None})
        splits = _prepared(recipe, every, folder)
        source = _source_hits(recipe, splits, workers, Path(scratch))
        for entry in bundle.manifest.artifacts:
            hits = _hits(bundle, entry.format, splits, workers, Path(scratch))
            compression = entry.compression
            rows.append(
                {
                    "format": entry.format,
                    "model": compression.model if compression else "source",
                    "precision": str(entry.details.get("precision", entry.precision)),
                    "size": entry.size,
                    "brotli": entry.wire_size,
                    "size_ratio": entry.size / compression.float_size if compression else 1.0,
                    "brotli_ratio": entry.wire_size / compression.float_wire_size
                    if compression
                    else 1.0,
                    "samples": sum(part.count for part in splits),
                    "source_accuracy": source,
                    "accuracy": hits,
                    "drop": source - hits,
                }
            )
    return rows


def _prepared(recipe: Recipe, options: Any, folder: Path) -> list[Any]:
    model = recipe.model
    with opened(model.source, trust_source=model.trust_source) as source:
        spec = with_recipe(source, model).spec
    return list(prepare_data(spec, options, folder).splits.values())


def _source_hits(recipe: Recipe, splits: list[Any], workers: Workers, scratch: Path) -> float:
    model = recipe.model
    with opened(model.source, trust_source=model.trust_source) as source:
        step: Row = with_recipe(source, model).to_json()
        call, heavy = "answer_model", not source.format.startswith(("onnx", "tflite"))
        if source.format == "tfjs_layers":  # thousands of samples go through TensorFlow
            made = workers.call(
                "pipcook_deploy.steps:convert",
                {
                    "converter": "keras_h5",
                    "options": {},
                    "model": step,
                    "into": _new(scratch / "h5"),
                },
                heavy=True,
            )
            path = str(Path(made["path"]) / made["entry"])
            step = step | {"format": "keras_h5", "path": path}
        return _accuracy(splits, workers, scratch / "source", call, {"model": step}, heavy)


def _hits(bundle: Bundle, format: str, splits: list[Any], workers: Workers, scratch: Path) -> float:
    artifact = bundle.artifact(format).to_json()
    heavy = artifact["model_format"] == "saved_model"
    return _accuracy(
        splits, workers, scratch / format, "answer_artifact", {"artifact": artifact}, heavy
    )


def _accuracy(
    splits: list[Any], workers: Workers, out: Path, function: str, what: Row, heavy: bool
) -> float:
    right = count = 0
    for split in splits:
        arguments = what | {
            "inputs": str(split.folder / "inputs"),
            "outputs": str(out / split.name),
        }
        workers.call(f"pipcook_deploy.compression.judging:{function}", arguments, heavy=heavy)
        scores = next(iter(load_tensors(out / split.name).values()))
        right += int((scores.reshape(split.count, -1).argmax(axis=1) == split.targets()).sum())
        count += split.count
    return right / count


def _new(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def _row(case: Row, format: str) -> Row:
    return next(row for row in case["artifacts"] if row["format"] == format)


def _drops(case: Row, most: float) -> bool:
    return all(row["drop"] <= most for row in case["artifacts"])


BARS: dict[str, dict[str, Callable[[Row], bool]]] = {
    "fashion": {
        "TF.js: brotli <= 1/10 of float32": lambda c: _row(c, "tfjs")["brotli_ratio"] <= 0.1,
        "ONNX: size and brotli <= 0.28 of float32": lambda c: (
            max(_row(c, "onnx")[key] for key in ("size_ratio", "brotli_ratio")) <= 0.28
        ),
        "TFLite: size and brotli <= 0.28 of float32": lambda c: (
            max(_row(c, "tflite")[key] for key in ("size_ratio", "brotli_ratio")) <= 0.28
        ),
        "every artifact loses <= 0.5 points on 10,000 images": lambda c: _drops(c, 0.005),
        "the search takes <= 15 minutes": lambda c: c["seconds"] <= 900,
    },
    "collapse": {"every artifact loses <= 1 point": lambda c: _drops(c, 0.01)},
    "spam": {"every artifact loses <= 0.5 points": lambda c: _drops(c, 0.005)},
}


def show(case: Row) -> None:
    """A table, and whether the bars are met."""
    print(f"\n{case['case']}: {case['seconds']:.0f} s")
    head = "format       model                       precision             size      brotli    of float32     accuracy  lost"
    print(head)
    for row in case["artifacts"]:
        ratios = f"{row['size_ratio']:.3f} {row['brotli_ratio']:.3f}"
        print(
            f"{row['format']:<12} {row['model'][:27]:<27} {row['precision'][:20]:<20} "
            f"{row['size']:>8,} {row['brotli']:>10,}   {ratios}   "
            f"{row['accuracy']:.2%}   {100 * row['drop']:+.2f}"
        )
    for bar, met in case["bars"].items():
        print(f"{'met' if met else 'NOT MET':<8} {bar}")


NAMES = {
    "fashion": "Fashion-MNIST CNN, 84,934 parameters, 60,000 training images",
    "collapse": "depthwise CNN that int8 ruins, no training data",
    "spam": "spam filter, Embedding and Conv1D, 2,250 training mails",
}
HEAD = (
    "| model | format | made by | precision | brotli, of float32 | size, of float32 | accuracy, of float32 |\n"
    "|---|---|---|---|---|---|---|"
)
FORMATS = {"tfjs": "TF.js", "onnx": "ONNX", "saved_model": "SavedModel", "tflite": "TFLite"}


def markdown(cases: list[Row]) -> str:
    """The table of the README."""
    rows = [HEAD]
    for case in cases:
        took = f"{NAMES[case['case']]} ({case['seconds']:.0f} s)"
        for row in case["artifacts"]:
            rows.append(
                f"| {took} | {FORMATS[row['format']]} | {row['model']} | {row['precision']} "
                f"| {row['brotli'] / 1000:.1f} kB, 1/{1 / row['brotli_ratio']:.1f} "
                f"| {row['size'] / 1000:.1f} kB, {row['size_ratio']:.2f} "
                f"| {row['accuracy']:.2%}, {-100 * row['drop']:+.2f} |"
            )
            took = ""
    counts = ", ".join(f"{case['artifacts'][0]['samples']:,}" for case in cases)
    return "\n".join(rows) + (
        f"\n\nAccuracy over all evaluation samples ({counts}), asked again of the bundle's artifacts in their own "
        "runtimes: `make bench-compression`."
    )


def main() -> int:
    """1 when a bar is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["fashion"], choices=[*RECIPES])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--readme", type=Path, help="write the table into this file")
    arguments = parser.parse_args()
    cases = []
    for name in arguments.cases:
        case = run_case(name)
        case["bars"] = {bar: bool(test(case)) for bar, test in BARS[name].items()}
        show(case)
        cases.append(case)
    if arguments.json:
        write_json(arguments.json, json.loads(json.dumps(cases)))
    if arguments.readme:
        put_into(arguments.readme, "compression", markdown(cases))
    return 0 if all(all(case["bars"].values()) for case in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
