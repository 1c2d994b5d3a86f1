"""The two-group view: recovered where it is planted, silent where it is not, equal to scikit-learn's."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from analysis.mixture import two_groups


def test_planted_groups_are_recovered():
    rng = np.random.default_rng(0)
    x = np.r_[0.72 + 0.01 * rng.normal(size=10), 0.81 + 0.01 * rng.normal(size=14)]
    found = two_groups(rng.permutation(x), noise=0.009)
    assert found.bimodal
    np.testing.assert_allclose([found.low, found.high], [x[:10].mean(), x[10:].mean()], atol=0.002)
    assert found.share_high == pytest.approx(14 / 24, abs=0.01)
    assert found.n == 24


def test_the_fit_is_scikit_learns():
    rng = np.random.default_rng(1)
    x = np.r_[rng.normal(0, 1, 40), rng.normal(4, 1, 60)]
    oracle = GaussianMixture(2, covariance_type="tied", n_init=5, random_state=0, tol=1e-9, max_iter=1000).fit(
        x[:, None]
    )
    one = GaussianMixture(1).fit(x[:, None])
    found = two_groups(x, iterations=2000)
    order = np.argsort(oracle.means_[:, 0])
    np.testing.assert_allclose([found.low, found.high], oracle.means_[order, 0], atol=1e-3)
    assert found.share_high == pytest.approx(oracle.weights_[order[1]], abs=1e-3)
    assert found.evidence == pytest.approx(one.bic(x[:, None]) - oracle.bic(x[:, None]), abs=0.05)


@pytest.mark.parametrize("n", [8, 24])
def test_one_group_is_rarely_split(n):
    rng = np.random.default_rng(n)
    claims = [two_groups(0.8 + 0.02 * rng.normal(size=n), noise=0.009).bimodal for _ in range(150)]
    assert np.mean(claims) < 0.05


def test_equal_values_and_few_values():
    assert not two_groups(np.full(8, 0.5)).bimodal
    assert two_groups(np.arange(5.0)) is None
