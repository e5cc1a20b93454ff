import math

import numpy as np
import pytest

from pipcook_deploy.answer_damage import answer_damage

HALF = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)


def test_of_probabilities_it_is_the_mean_divergence_in_nats() -> None:
    moved = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)
    expected = (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)) / 2
    assert answer_damage({"p": HALF}, {"p": moved}) == pytest.approx(expected, rel=1e-4)


def test_zeros_are_bounded_and_nan_is_not() -> None:
    zero = np.array([[0.0, 1.0], [0.9, 0.1]], np.float32)
    assert 1 < answer_damage({"p": HALF}, {"p": zero}) < 10
    assert answer_damage({"p": HALF}, {"p": zero * np.nan}) == math.inf


def test_of_other_numbers_it_is_relative_to_their_variance() -> None:
    before = np.array([[1.0], [3.0]], np.float32)  # variance 1
    assert answer_damage({"y": before}, {"y": before + 0.5}) == pytest.approx(0.25)
    assert answer_damage({"y": before * 10}, {"y": before * 10 + 5}) == pytest.approx(0.25)


def test_outputs_are_averaged_and_the_same_answers_are_no_damage() -> None:
    before = {"y": np.array([[1.0], [3.0]]), "p": HALF, "t": np.array(["a", "b"], object)}
    assert answer_damage(before, before) == 0
    changed = before | {"t": np.array(["a", "c"], object)}
    assert answer_damage(before, changed) == pytest.approx(0.5 / 3)
