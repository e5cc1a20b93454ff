"""The table of a compression in the terminal."""

import pytest

from pipcook_deploy.cli.compression import print_compression
from tests.report.made import made_report


@pytest.fixture
def report():
    return made_report(pictures=1, layers=2)


def test_each_format_has_a_row_before_and_after(report, capsys):
    print_compression(report)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "format"
    tfjs, onnx, tflite = rows[:3]
    for cell in ("TF.js", "uint8", "345 kB → 75.9 kB", "313 kB → 29.2 kB", "10.7x", "92.1 % → 91.9 %",
                 "−0.2 points (−0.5 to +0.1)", "1.93 ms → 1.91 ms", "1.01x", "kept"):  # fmt: skip
        assert cell in tfjs
    assert onnx.rstrip().endswith("refused")
    assert tflite.startswith("TFLite")
    assert rows[3] == "measured on 5,000 images; budget: 0.5 points lost at most"
    assert rows[5] == f"ONNX: {report.why['onnx']}"


def test_without_times_there_is_no_column_of_them(report, capsys):
    kept = tuple(c.model_copy(update={"latency_ms": None}) for c in report.candidates)
    print_compression(report.model_copy(update={"bench": (), "candidates": kept}))
    assert "faster" not in capsys.readouterr().out


def test_what_was_never_made_is_refused(report, capsys):
    print_compression(
        report.model_copy(update={"candidates": (), "winners": {}, "bench": (), "why": {"onnx": "no \x1b[31m [bold]op[/]"}})
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "refused" in printed
    assert "\x1b" not in printed and "[bold]op[/]" in printed
