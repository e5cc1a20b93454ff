"""A budget that cannot be measured is refused: by counting, or from the source's own answers."""

import numpy as np
import pytest

from pipcook_deploy.compression.budget_check import check_by_answers, check_by_count
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.errors import BudgetError
from pipcook_deploy.metrics import metric_called
from pipcook_deploy.spec import ModelSpec, TensorSpec
from tests.compression.made_split import make_split

SPEC = ModelSpec(
    inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 1)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(None, 1)),),
)


def made(folder, count: int):
    """Numbers between -1 and 1, each told with an error of about 0.4."""
    rng = np.random.default_rng(0)
    right = rng.uniform(-1, 1, count).astype(np.float32)
    split = make_split(folder, {"x": right[:, np.newaxis]}, right, "verdict")
    return split, {"y": right[:, np.newaxis] + rng.normal(scale=0.4, size=(count, 1))}


def test_shares_are_told_by_the_number_of_samples(tmp_path):
    split, _ = made(tmp_path, 100)
    with pytest.raises(BudgetError, match="cannot be measured on 100 samples"):
        check_by_count(metric_called("accuracy"), BudgetOptions(max_drop=0.005), split)
    assert check_by_count(metric_called("accuracy"), BudgetOptions(max_drop=0.1), split)


def test_errors_are_told_by_the_answers_of_the_source(tmp_path):
    split, answers = made(tmp_path, 75)
    rmse = metric_called("rmse")
    tight = BudgetOptions(max_drop=0.0005)
    assert not check_by_count(rmse, tight, split)
    with pytest.raises(BudgetError, match="cannot be measured on 75 samples") as caught:
        check_by_answers(rmse, tight, split, answers, SPEC)
    assert "max_drop = " in caught.value.hint
    check_by_answers(rmse, BudgetOptions(max_drop=0.1), split, answers, SPEC)


def test_large_answers_are_judged_by_some_of_the_samples(tmp_path):
    rng = np.random.default_rng(0)
    right = rng.uniform(0, 1, (50, 100_000)).astype(np.float32)
    split = make_split(tmp_path, {"x": right[:, :1]}, right, "verdict")
    answers = {"y": right + rng.normal(scale=0.1, size=right.shape).astype(np.float32)}
    check_by_answers(metric_called("psnr"), BudgetOptions(max_drop=0.5), split, answers, SPEC)
