import numpy as np
import pytest

from pipcook_deploy.errors import BudgetError, UsageError
from pipcook_deploy.metrics import METRICS, Known, check_measurable, default_metric, metric_called
from pipcook_deploy.spec import ModelSpec, TensorSpec
from tests.metrics.made import classifier, regressor, scores


def test_half_a_point_on_200_samples_is_refused_with_what_it_needs():
    with pytest.raises(BudgetError) as caught:
        check_measurable(metric_called("accuracy"), 0.005, 200)
    assert "a budget of 0.5 points cannot be measured on 200 samples" in caught.value.message
    assert "it needs about 3,2" in caught.value.message
    assert "max_drop = 0.02" in caught.value.hint


def test_what_is_said_to_be_enough_is_enough_and_one_less_is_not():
    metric = metric_called("accuracy")
    needed = metric.samples_needed(0.005)
    assert 3_000 < needed < 3_400
    check_measurable(metric, 0.005, needed)
    with pytest.raises(BudgetError):
        check_measurable(metric, 0.005, needed - 1)


def test_the_budget_that_the_hint_proposes_is_accepted():
    metric = metric_called("accuracy")
    with pytest.raises(BudgetError) as caught:
        check_measurable(metric, 0.005, 200)
    check_measurable(metric, float(caught.value.hint.rsplit(" ", 1)[1]), 200)


def test_no_budget_at_all_cannot_be_measured():
    with pytest.raises(BudgetError, match="a budget of 0 cannot be measured"):
        check_measurable(metric_called("accuracy"), 0, 10**9)


def test_more_changes_need_more_samples():
    metric = metric_called("accuracy")
    assert metric.samples_needed(0.005, 0.1) > 4 * metric.samples_needed(0.005, 0.02)


def test_numbers_are_judged_by_the_models_own_errors():
    rng = np.random.default_rng(0)
    right = rng.random(500).astype(np.float32)
    known = Known(
        {"y": (right + 0.1 * rng.standard_normal(500))[:, None].astype(np.float32)},
        right,
        regressor(),
    )
    metric = metric_called("rmse")
    needed = metric.samples_needed(0.005, known=known)
    # Independent noise on errors of size r that uses up d needs 1.96^2 * 2 r / d samples.
    assert needed == pytest.approx(1.96**2 * 2 * 0.1 / 0.005, rel=0.3)
    with pytest.raises(BudgetError, match="in the unit of the targets"):
        check_measurable(metric, 0.005, 20, known)
    with pytest.raises(ValueError, match="model's own answers"):
        metric.samples_needed(0.005)


def test_macro_f1_of_rare_classes_needs_more_than_accuracy():
    rng = np.random.default_rng(0)
    right = rng.choice(4, 2000, p=[0.9, 0.06, 0.02, 0.02])
    known = Known(scores(right, 4), right, classifier(4))
    assert metric_called("macro_f1").samples_needed(0.01, known=known) > metric_called(
        "accuracy"
    ).samples_needed(0.01)


def test_a_misspelt_metric_is_told():
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        metric_called("acuracy")


@pytest.mark.parametrize(
    ("task", "shape", "labels", "targets", "expected"),
    [
        ("image-classification", (None, 3), (), None, "accuracy"),
        ("text-classification", (None, 1), (), None, "accuracy"),
        ("object-detection", (None, 5, 4), ("a",), None, "map"),
        ("image-to-image", (None, 8, 8, 3), (), None, "psnr"),
        ("tabular", (None, 1), (), None, "rmse"),
        ("tabular", (None, 1), ("no", "yes"), None, "accuracy"),
        ("tabular", (None, 3), (), None, "accuracy"),
        ("tensor", (None, 3), (), np.zeros((4, 3), np.float32), "rmse"),
        ("tensor", (None, 3), (), np.zeros(4, np.int64), "accuracy"),
    ],
)
def test_the_default_suits_the_task(task, shape, labels, targets, expected):
    spec = ModelSpec(
        task=task, outputs=(TensorSpec(name="y", dtype="float32", shape=shape),), labels=labels
    )
    assert default_metric(spec, targets) == expected
    assert expected in METRICS
