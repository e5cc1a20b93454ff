"""A budget that cannot be measured is refused: by counting, or from the source's own answers."""

import numpy as np
import pytest

from pipcook_deploy.compression.budget_check import (
    check_by_answers,
    check_by_count,
    check_finite,
    check_metric,
    kind_of,
)
from pipcook_deploy.compression.options import BudgetOptions
from pipcook_deploy.errors import BudgetError, SourceError, UsageError
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
        check_by_count(metric_called("accuracy"), BudgetOptions(max_drop=0.005), split.count)
    assert check_by_count(metric_called("accuracy"), BudgetOptions(max_drop=0.1), split.count)


def test_errors_are_told_by_the_answers_of_the_source(tmp_path):
    split, answers = made(tmp_path, 75)
    rmse = metric_called("rmse")
    tight = BudgetOptions(max_drop=0.0005)
    assert not check_by_count(rmse, tight, split.count)
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


@pytest.mark.parametrize(
    ("metric", "targets", "fitting"),
    [
        ("map", np.zeros(3, np.int64), "accuracy, top5, macro_f1"),
        ("accuracy", np.zeros(3, np.float32), "mae, rmse, psnr"),
        ("accuracy", [{"boxes": [], "labels": []}], "map50, map"),
        ("rmse", [{"boxes": [], "labels": []}], "map50, map"),
    ],
)
def test_a_metric_of_another_kind_of_data_is_refused_with_those_that_fit(metric, targets, fitting):
    with pytest.raises(UsageError) as caught:
        check_metric(metric, BudgetOptions(), kind_of(targets))
    assert caught.value.hint == f"choose one of {fitting}"


def test_numbers_may_be_judged_where_they_are_whole():
    check_metric("rmse", BudgetOptions(max_drop=5), kind_of(np.zeros(3, np.int64)))


def test_a_loss_of_more_than_there_is_is_a_percentage_by_mistake():
    with pytest.raises(UsageError, match="max_drop = 5 is all of accuracy"):
        check_metric("accuracy", BudgetOptions(max_drop=5), "class")


def test_a_source_that_answers_nan_judges_nothing(tmp_path):
    split, answers = made(tmp_path, 100)
    check_finite(answers, split, 0.01)
    answers["y"][7] = np.nan
    check_finite(answers, split, 0.01)  # as many as may be bad
    answers["y"][9] = np.nan
    with pytest.raises(SourceError, match=f"2 of 100 samples with NaN, {split.origins()[7]} first"):
        check_finite(answers, split, 0.01)
