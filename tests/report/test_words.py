"""Numbers as people read them."""

import pytest

from pipcook_deploy.report import words
from pipcook_deploy.report.entries import IntervalEntry


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (29_040, "29.0 kB"), (312_600, "313 kB"),
     (999_600, "1.00 MB"), (9_400_000, "9.40 MB"), (2_000_000_000_000, "2000 GB")],
)  # fmt: skip
def test_sizes_have_three_digits(count, text):
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(-0.002, "%", "−0.2 points"), (0.0123, "%", "+1.2 points"), (-0.0004, "%", "−0.04 points"),
     (0.0, "%", "0 points"), (-1.25, "dB", "−1.25 dB"), (0.5, "", "+0.5"), (0.5, "(as targets)", "+0.5")],
)  # fmt: skip
def test_changes_have_their_sign_and_small_ones_are_not_none(value, unit, text):
    assert words.change(value, unit) == text


def test_levels_and_intervals_follow_the_unit():
    assert words.level(0.9213, "%") == "92.1 %"
    assert words.level(32.104, "dB") == "32.1 dB"
    assert words.amount(0.005, "%") == "0.5 points"
    assert (
        words.change_interval(IntervalEntry(value=0, low=-0.005, high=0.001), "%") == "−0.5 to +0.1"
    )


def test_names_are_those_of_formats_and_metrics():
    assert words.format_name("tfjs") == "TF.js"
    assert words.format_name("coreml") == "coreml"
    assert words.metric_name("top5") == "top-5 accuracy"
    assert words.metric_name("my_metric") == "my_metric"


def test_ratios_need_both_numbers():
    assert words.ratio(313, 29) == "10.8x"
    assert words.ratio(None, 29) == words.ratio(313, 0) == "–"
