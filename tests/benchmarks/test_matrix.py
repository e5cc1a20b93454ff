"""The table of the README: failures are shown as failures, and only its place is rewritten."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("matrix")


def row(matrix, **cells):
    good = {"max_abs": 1.5e-7, "runtimes": {}, "bytes": 1}
    return {
        "parameters": 1234,
        "cells": {column: cells.get(column, good) for column in matrix.COLUMNS},
    }


def test_a_failure_is_shown_with_its_reason(matrix):
    text = matrix.table({"gru": row(matrix, tflite={"failed": "RuntimeError: no such op"})})
    header, _, line, _, note = text.splitlines()
    assert header.count("|") == line.count("|")
    assert line.startswith("| gru (1,234 parameters) | 1.5e-07 |")
    assert line.endswith("| FAILED (1) |")
    assert note == "1. gru, tflite: RuntimeError: no such op"


def test_a_runtime_that_lacks_something_is_a_footnote(matrix):
    cell = {
        "max_abs": 0.0,
        "runtimes": {},
        "bytes": 1,
        "unsupported": {"tfjs-wasm": "no Erf kernel"},
    }
    text = matrix.table({"transformer": row(matrix, onnx=cell)})
    assert "| 0 (1) |" in text
    assert text.endswith("1. transformer, onnx: not in tfjs-wasm: no Erf kernel")


def test_only_what_stands_between_the_markers_is_replaced(matrix, tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- matrix:begin -->\nold\n<!-- matrix:end -->\nafter\n")
    matrix.put_into(readme, "matrix", "new")
    assert readme.read_text() == "before\n<!-- matrix:begin -->\nnew\n<!-- matrix:end -->\nafter\n"


def test_a_readme_without_markers_is_left_alone(matrix, tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    with pytest.raises(SystemExit, match="matrix:begin"):
        matrix.put_into(readme, "matrix", "new")
    assert readme.read_text() == "nothing\n"


def test_a_reason_is_one_line_without_the_scratch_folder(matrix):
    text = "progress\nerror: tflite: /tmp/x/gru.keras: cannot\n  more\n"
    assert matrix.reason(text, Path("/tmp/x")) == "tflite: /gru.keras: cannot"
