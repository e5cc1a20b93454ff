import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score, top_k_accuracy_score

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics import metric_called
from tests.metrics.made import classifier, scores


def _drawn(count, classes, seed=0):
    rng = np.random.default_rng(seed)
    right = rng.integers(0, classes, count)
    told = np.where(rng.random(count) < 0.7, right, rng.integers(0, classes, count))
    return right, told


def test_accuracy_is_sklearns_and_each_classs_recall():
    right, told = _drawn(500, 4)
    found = metric_called("accuracy").score(
        scores(told, 4), right, classifier(4, ("a", "b", "c", "d"))
    )
    assert found.value == pytest.approx(accuracy_score(right, told))
    assert list(found.per_class) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(
        list(found.per_class.values()), recall_score(right, told, average=None)
    )
    assert found.low < found.value < found.high
    assert found.samples == 500


def test_top5_is_sklearns():
    rng = np.random.default_rng(3)
    values = rng.random((300, 12)).astype(np.float32)
    right = rng.integers(0, 12, 300)
    found = metric_called("top5").score({"y": values}, right, classifier(12))
    assert found.value == pytest.approx(
        top_k_accuracy_score(right, values, k=5, labels=np.arange(12))
    )


def test_equal_scores_do_not_put_every_class_among_the_five():
    found = metric_called("top5").score(
        {"y": np.zeros((12, 12), np.float32)}, np.arange(12), classifier(12)
    )
    assert found.value == pytest.approx(5 / 12)


def test_macro_f1_is_sklearns_over_the_classes_of_the_samples():
    right, told = _drawn(400, 5, seed=1)
    keep = right != 4  # the fifth class is told, but never right
    right, told = right[keep], told[keep]
    found = metric_called("macro_f1").score(scores(told, 5), right, classifier(5))
    expected = f1_score(right, told, average=None, labels=[0, 1, 2, 3])
    np.testing.assert_allclose(list(found.per_class.values()), expected)
    assert found.value == pytest.approx(expected.mean())
    assert found.low < found.value < found.high


def test_a_drop_counts_what_is_lost_less_what_is_won_on_the_same_samples():
    right = np.zeros(100, np.int64)
    before, after = np.zeros(100, np.int64), np.zeros(100, np.int64)
    after[:5] = 1  # five lost
    before[5:7] = 2  # two won
    before[7], after[7] = 1, 2  # wrong before and after, in another way
    metric = metric_called("accuracy")
    found = metric.drop(scores(before, 3), scores(after, 3), right, classifier(3))
    assert found.value == pytest.approx(0.03)
    assert found.changed == 8
    # Bonett and Price's interval by hand: (5+1)/102 - (2+1)/102 +- 1.96 sqrt((9/102 - (3/102)^2) / 102).
    assert found.low == pytest.approx(-0.02796, abs=1e-4)
    assert found.high == pytest.approx(0.08678, abs=1e-4)


def test_the_other_way_round_is_the_negative_drop():
    right, told = _drawn(300, 3)
    _, other = _drawn(300, 3, seed=9)
    for name in ("accuracy", "macro_f1", "top5"):
        metric = metric_called(name)
        one = metric.drop(scores(told, 3), scores(other, 3), right, classifier(3))
        two = metric.drop(scores(other, 3), scores(told, 3), right, classifier(3))
        assert one.value == pytest.approx(-two.value)
        assert one.low == pytest.approx(-two.high, abs=1e-9)


def test_one_column_is_a_probability_with_its_threshold_at_a_half():
    outputs = {"y": np.array([[0.2], [0.5], [0.7], [0.9]], np.float32)}
    found = metric_called("accuracy").score(outputs, np.array([0, 0, 1, 0]), classifier(1))
    assert found.value == 0.75
    with pytest.raises(UsageError, match="only as a probability"):
        metric_called("accuracy").score(
            {"y": outputs["y"] * 9 - 4}, np.array([0, 0, 1, 0]), classifier(1)
        )


def test_an_answer_that_is_no_number_is_wrong():
    outputs = scores([0, 1], 2)
    outputs["y"][0] = np.nan
    assert metric_called("accuracy").score(outputs, np.array([0, 1]), classifier(2)).value == 0.5
    assert metric_called("top5").score(outputs, np.array([0, 1]), classifier(2)).value == 0.5
    assert metric_called("macro_f1").score(outputs, np.array([0, 1]), classifier(2)).value == 0.5


def test_scores_that_are_not_of_the_labels_are_refused():
    with pytest.raises(UsageError, match="gives 4 scores for each sample, the model has 3 labels"):
        metric_called("accuracy").score(
            scores([0, 1], 4), np.array([0, 1]), classifier(4, ("a", "b", "c"))
        )


@pytest.mark.parametrize("targets", [None, [{"boxes": [], "labels": []}], np.array([0.5, 1.0])])
def test_targets_that_are_not_classes_are_refused(targets):
    with pytest.raises(UsageError, match="compares classes"):
        metric_called("accuracy").score(scores([0, 1], 2), targets, classifier(2))
