"""Feature measures against closed forms."""

import numpy as np
import pytest
from scipy import stats

from analysis import sparsity

N = 16
MEASURES = (sparsity.best_share, sparsity.effective_number, sparsity.effective_rank, sparsity.gini, sparsity.hoyer)


def test_one_feature_and_all_features_alike():
    one, alike = np.zeros(N), np.full(N, 0.1)
    one[3] = 0.3
    d = np.stack([one, alike])
    np.testing.assert_allclose(sparsity.best_share(d), [1, 1 / N])
    np.testing.assert_allclose(sparsity.effective_number(d), [1, N])
    np.testing.assert_allclose(sparsity.effective_rank(d), [1, N])
    np.testing.assert_allclose(sparsity.gini(d), [1 - 1 / N, 0], atol=1e-12)
    np.testing.assert_allclose(sparsity.hoyer(d), [1, 0], atol=1e-12)


def test_gini_is_half_the_relative_mean_difference():
    d = np.random.default_rng(0).random(N)
    oracle = np.abs(d[:, None] - d[None]).mean() / (2 * d.mean())
    np.testing.assert_allclose(sparsity.gini(d), oracle)


def test_order_and_scale_do_not_matter():
    rng = np.random.default_rng(1)
    d = rng.random((5, N))
    for measure in MEASURES:
        np.testing.assert_allclose(measure(3 * rng.permuted(d, axis=1)), measure(d))


def test_two_features_have_effective_number_by_hand():
    np.testing.assert_allclose(sparsity.effective_number(np.array([3.0, 1.0])), 16 / 10)
    np.testing.assert_allclose(sparsity.hoyer(np.array([3.0, 4.0])), (np.sqrt(2) - 7 / 5) / (np.sqrt(2) - 1))


def test_no_feature_in_use_is_unknown_not_zero():
    d = sparsity.excess(np.full(N, 0.48), 0.5)
    for measure in MEASURES:
        assert np.isnan(measure(d))


def test_effective_rank_is_the_exponential_of_the_entropy():
    d = np.random.default_rng(2).random((3, N))
    d[0, :5] = 0
    np.testing.assert_allclose(sparsity.effective_rank(d), np.exp(stats.entropy(d, axis=1)))


def test_usage_is_cut_to_what_is_to_be_had():
    accuracy = np.array([0.4, 0.5, 0.6, 0.75, 0.9])
    np.testing.assert_allclose(sparsity.usage(accuracy, 0.5), [0, 0, 0.2, 0.5, 0.8])
    np.testing.assert_allclose(sparsity.usage(accuracy, 0.5, 0.75), [0, 0, 0.4, 1, 1])
    ceilings = np.array([1.0, 1.0, 0.6, 1.0, 1.0])
    np.testing.assert_allclose(sparsity.usage(accuracy, 0.5, ceilings), [0, 0, 1, 0.5, 0.8])


@pytest.mark.parametrize("features", [16, 64])
def test_networks_that_guess_show_the_stated_noise(features):
    hits = np.random.default_rng(3).binomial(1000, 0.5, (4000, features))
    d = sparsity.excess(hits / 1000, 0.5)
    assert sparsity.effective_number(d).mean() / features == pytest.approx(1 / np.pi, rel=0.1)
    assert sparsity.effective_rank(d).mean() / features == pytest.approx(0.4, rel=0.1)
