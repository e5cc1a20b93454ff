"""A 95 % interval covers the truth in about 95 % of simulated sets."""

import numpy as np
import pytest

from pipcook_deploy.metrics import bootstrap, metric_called
from pipcook_deploy.metrics.proportions import paired_difference, wilson
from tests.metrics.made import classifier, regressor, scores

SETS = 500


@pytest.mark.parametrize(("share", "count"), [(0.9, 200), (0.98, 500), (0.5, 50)])
def test_wilson_covers(share, count):
    rng = np.random.default_rng(0)
    inside = 0
    for hits in rng.binomial(count, share, SETS):
        low, high = wilson(int(hits), count)
        inside += low <= share <= high
    assert 0.92 <= inside / SETS <= 0.98


def test_wilson_by_hand():
    # Newcombe 1998, Stat. Med. 17, 857-872, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


@pytest.mark.parametrize(("lost", "won", "count"), [(0.03, 0.02, 1000), (0.1, 0.02, 300)])
def test_the_paired_interval_covers(lost, won, count):
    rng = np.random.default_rng(1)
    inside = 0
    for down, up, _ in rng.multinomial(count, [lost, won, 1 - lost - won], SETS):
        low, high = paired_difference(int(down), int(up), count)
        inside += low <= lost - won <= high
    assert 0.92 <= inside / SETS <= 0.98


def test_nothing_changed_is_still_not_certain():
    low, high = paired_difference(0, 0, 1000)
    assert low < 0 < high < 0.005


@pytest.fixture
def fewer_resamples(monkeypatch):
    """500 sets with 1000 resamples each would take too long."""
    original = bootstrap.resamples
    monkeypatch.setattr(
        bootstrap, "resamples", lambda count, elements=None: original(count, elements, 300)
    )


def test_the_bootstrap_of_a_drop_of_rmse_covers(fewer_resamples):
    rng = np.random.default_rng(2)
    metric, spec = metric_called("rmse"), regressor()
    truth = np.sqrt(1 + 0.36) - 1  # noise of 0.6 on errors of 1
    inside = 0
    for _ in range(SETS):
        right = np.zeros(300, np.float32)
        error = rng.standard_normal((300, 1))
        after = error + 0.6 * rng.standard_normal((300, 1))
        found = metric.drop({"y": error}, {"y": after}, right, spec)
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / SETS <= 0.98


def test_the_bootstrap_of_macro_f1_covers(fewer_resamples):
    rng = np.random.default_rng(3)
    metric, spec = metric_called("macro_f1"), classifier(3)

    def drawn(count):
        right = rng.choice(3, count, p=[0.5, 0.3, 0.2])
        return right, np.where(rng.random(count) < 0.8, right, rng.integers(0, 3, count))

    right, told = drawn(1_000_000)
    truth = np.mean(
        [
            2 * ((right == c) & (told == c)).sum() / ((right == c).sum() + (told == c).sum())
            for c in range(3)
        ]
    )
    inside = 0
    for _ in range(SETS):
        right, told = drawn(400)
        found = metric.score(scores(told, 3), right, spec)
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / SETS <= 0.98


def test_resamples_do_not_depend_on_their_groups():
    one = np.concatenate(list(bootstrap.resamples(50, None, 30)))
    many = np.concatenate(list(bootstrap.resamples(50, bootstrap.MOST_ELEMENTS, 30)))
    np.testing.assert_array_equal(one, many)
