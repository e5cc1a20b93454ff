import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error

from pipcook_deploy.errors import UsageError
from pipcook_deploy.metrics import metric_called
from tests.metrics.made import regressor


def _drawn(shape, seed=0):
    rng = np.random.default_rng(seed)
    right = rng.random(shape).astype(np.float32)
    return right, (right + 0.1 * rng.standard_normal(shape)).astype(np.float32)


def test_errors_are_sklearns():
    right, told = _drawn((600, 3))
    mae = metric_called("mae").score({"y": told}, right, regressor())
    rmse = metric_called("rmse").score({"y": told}, right, regressor())
    assert mae.value == pytest.approx(mean_absolute_error(right, told), rel=1e-6)
    assert rmse.value == pytest.approx(mean_squared_error(right, told) ** 0.5, rel=1e-6)
    for found in (mae, rmse):
        assert found.low < found.value < found.high


def test_psnr_is_the_mean_over_pictures():
    right, told = _drawn((300, 4, 4, 1))
    each = 10 * np.log10(1 / ((right.astype(float) - told) ** 2).mean(axis=(1, 2, 3)))
    found = metric_called("psnr").score({"y": told}, right, regressor())
    assert found.value == pytest.approx(each.mean(), rel=1e-5)


@pytest.mark.parametrize(("factor", "offset", "peak"), [(255, 0, 255), (2, -1, 2), (1, 0, 1)])
def test_the_peak_of_psnr_is_that_of_the_range_of_the_targets(factor, offset, peak):
    right = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4) * factor + offset
    found = metric_called("psnr").score({"y": right + peak / 10}, right, regressor())
    assert found.value == pytest.approx(20, abs=1e-3)  # an error of a tenth of the peak


def test_a_perfect_picture_counts_as_100_db():
    right, _ = _drawn((3, 4))
    assert metric_called("psnr").score({"y": right}, right, regressor()).value == pytest.approx(100)


@pytest.mark.parametrize("name", ["mae", "rmse", "psnr"])
def test_worse_is_positive_whichever_way_the_metric_runs(name):
    right, told = _drawn((200, 2))
    worse = told + 0.2
    found = metric_called(name).drop({"y": told}, {"y": worse}, right, regressor())
    assert 0 < found.low < found.value < found.high
    assert found.changed == 200


def test_rounding_noise_changes_no_answer():
    right, told = _drawn((200, 2))
    assert (
        metric_called("rmse").drop({"y": told}, {"y": told + 1e-5}, right, regressor()).changed == 0
    )


def test_the_interval_of_a_drop_is_paired():
    right, told = _drawn((500, 1))
    shifted = told + 0.001
    found = metric_called("rmse").drop({"y": told}, {"y": shifted}, right, regressor())
    alone = metric_called("rmse").score({"y": told}, right, regressor())
    assert found.high - found.low < 0.1 * (alone.high - alone.low)


def test_a_target_that_does_not_fit_the_answer_is_refused():
    right, told = _drawn((10, 3))
    with pytest.raises(UsageError, match=r"answers \[10, 3\], the data says \[10, 2\]"):
        metric_called("mae").score({"y": told}, right[:, :2], regressor())
