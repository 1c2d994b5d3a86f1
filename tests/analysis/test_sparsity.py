"""Feature measures against closed forms."""

import numpy as np

from analysis import sparsity

N = 16


def test_one_feature_and_all_features_alike():
    one, alike = np.zeros(N), np.full(N, 0.1)
    one[3] = 0.3
    d = np.stack([one, alike])
    np.testing.assert_allclose(sparsity.best_share(d), [1, 1 / N])
    np.testing.assert_allclose(sparsity.effective_number(d), [1, N])
    np.testing.assert_allclose(sparsity.gini(d), [1 - 1 / N, 0], atol=1e-12)
    np.testing.assert_allclose(sparsity.hoyer(d), [1, 0], atol=1e-12)


def test_gini_is_half_the_relative_mean_difference():
    d = np.random.default_rng(0).random(N)
    oracle = np.abs(d[:, None] - d[None]).mean() / (2 * d.mean())
    np.testing.assert_allclose(sparsity.gini(d), oracle)


def test_order_and_scale_do_not_matter():
    rng = np.random.default_rng(1)
    d = rng.random((5, N))
    for measure in (sparsity.best_share, sparsity.effective_number, sparsity.gini, sparsity.hoyer):
        np.testing.assert_allclose(measure(3 * rng.permuted(d, axis=1)), measure(d))


def test_two_features_have_effective_number_by_hand():
    np.testing.assert_allclose(sparsity.effective_number(np.array([3.0, 1.0])), 16 / 10)
    np.testing.assert_allclose(sparsity.hoyer(np.array([3.0, 4.0])), (np.sqrt(2) - 7 / 5) / (np.sqrt(2) - 1))


def test_no_feature_in_use_is_unknown_not_zero():
    d = sparsity.excess(np.full(N, 0.48), 0.5)
    for measure in (sparsity.best_share, sparsity.effective_number, sparsity.gini, sparsity.hoyer):
        assert np.isnan(measure(d))
