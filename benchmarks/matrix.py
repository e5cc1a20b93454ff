"""Every architecture of tests/zoo.py in every format: converted, run, compared; what fails is shown.

    python benchmarks/matrix.py [--json FILE] [--readme FILE] [--only NAME,NAME]

The number in a cell is the largest absolute difference to the source's outputs over all samples, outputs
and runtimes. One command line call an architecture; a format that failed is tried alone, for its reason.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import PROGRAM, ROOT, needed, put_into, timed, write_json

COLUMNS: dict[str, tuple[str, ...]] = {
    "tfjs graph": ("--to", "tfjs"),
    "tfjs layers": ("--to", "tfjs", "--set", "tfjs.kind=layers"),
    "onnx": ("--to", "onnx"),
    "saved_model": ("--to", "saved_model"),
    "tflite": ("--to", "tflite"),
}
TOGETHER = {"tfjs": "tfjs graph", "onnx": "onnx", "saved_model": "saved_model", "tflite": "tflite"}
SAMPLES = 8

# Models and samples come from the tests' own zoo: no framework is imported in this process.
MAKE = f"""
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(ROOT)!r})
from tests.zoo import ZOO, sample_inputs
folder = Path(sys.argv[1])
for name in sys.argv[2].split(",") if sys.argv[2] else ZOO:
    model = ZOO[name]()
    model.save(folder / f"{{name}}.keras")
    np.savez(folder / f"{{name}}.npz", **sample_inputs(model, {SAMPLES}))
    print(name, model.count_params())
"""

Cell = dict[str, Any]


def measure(name: str, folder: Path) -> dict[str, Cell]:
    """All cells of one architecture."""
    cells: dict[str, Cell] = {}
    found = convert(name, folder, ("--to", ",".join(TOGETHER), "--keep-going"))[0]
    for format, cell in found.items():
        cells[TOGETHER[format]] = cell
    for column, arguments in COLUMNS.items():
        if column not in cells:
            alone, reason = convert(name, folder, arguments)
            cells[column] = next(iter(alone.values()), {"failed": reason})
    return {column: cells[column] for column in COLUMNS}


def convert(name: str, folder: Path, arguments: tuple[str, ...]) -> tuple[dict[str, Cell], str]:
    """Cells by format of the artifacts that passed, and what the command wrote last."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out = Path(scratch) / "bundle"
        model, samples = folder / f"{name}.keras", folder / f"{name}.npz"
        run = timed([PROGRAM, "convert", model, "--out", out, "--samples", samples, *arguments])
        manifest = out / "manifest.json"
        if not manifest.is_file():
            return {}, reason(run.err or run.out, folder)
        entries = json.loads(manifest.read_text("utf-8"))["artifacts"]
    return {entry["format"]: passed(entry) for entry in entries}, reason(run.err, folder)


def reason(text: str, folder: Path) -> str:
    """The line that says why, in one line of at most 200 characters, without this machine's paths."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if line.lower().startswith("error")), (lines or ["?"])[-1])
    return said.replace(str(folder), "").removeprefix("error: ")[:200]


def passed(entry: dict[str, Any]) -> Cell:
    """Largest difference by runtime, and the size."""
    differences = {
        row["runtime"]: max(output["max_abs"] for output in row["outputs"])
        for row in entry["verification"]
        if row["status"] == "passed"
    }
    unsupported = {
        row["runtime"]: row["reason"]
        for row in entry["verification"]
        if row["status"] == "unsupported"
    }
    size = sum(file["size"] for file in entry["files"])
    cell = {"max_abs": max(differences.values()), "runtimes": differences, "bytes": size}
    return cell | ({"unsupported": unsupported} if unsupported else {})


def table(rows: dict[str, Any]) -> str:
    """Markdown: differences, failures by number, their reasons below."""
    reasons: list[str] = []
    lines = ["| model | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in rows.items():
        texts = [_text(cell, f"{name}, {column}", reasons) for column, cell in row["cells"].items()]
        lines.append(f"| {name} ({row['parameters']:,} parameters) | " + " | ".join(texts) + " |")
    notes = [f"{number}. {text}" for number, text in enumerate(reasons, 1)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _text(cell: Cell, where: str, reasons: list[str]) -> str:
    if "failed" in cell:
        reasons.append(f"{where}: {cell['failed']}")
        return f"FAILED ({len(reasons)})"
    text = f"{cell['max_abs']:.1e}" if cell["max_abs"] else "0"
    for runtime, why in cell.get("unsupported", {}).items():
        reasons.append(f"{where}: not in {runtime}: {why}")
        text += f" ({len(reasons)})"
    return text


def main() -> None:
    """Make the models, measure each, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--only", default="", help="names, comma-separated")
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = needed(timed([sys.executable, "-c", MAKE, folder, arguments.only]), "the zoo")
        for line in made.out.splitlines():
            name, parameters = line.split()
            rows[name] = {"parameters": int(parameters), "cells": measure(name, folder)}
            print(table({name: rows[name]}).splitlines()[2], flush=True)
            write_json(arguments.json, rows)
    print(table(rows))
    if arguments.readme:
        put_into(arguments.readme, "matrix", table(rows))


if __name__ == "__main__":
    main()
