"""Intervals against textbook formulas, statsmodels-free oracles and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from analysis.estimates import bootstrap_weights, mean_estimate, median_estimate, percentiles, share_estimate


def test_mean_of_independent_seeds_is_students():
    x = np.random.default_rng(0).normal(size=7)
    found = mean_estimate(x, np.arange(7), 0.95)
    low, high = stats.t.interval(0.95, 6, x.mean(), stats.sem(x))
    np.testing.assert_allclose([found.value, found.low, found.high], [x.mean(), low, high])


def test_equal_clusters_count_as_their_means():
    x = np.random.default_rng(1).normal(size=(5, 4))
    found = mean_estimate(x.ravel(), np.repeat(np.arange(5), 4), 0.9)
    means = x.mean(axis=1)
    low, high = stats.t.interval(0.9, 4, means.mean(), stats.sem(means))
    np.testing.assert_allclose([found.low, found.high], [low, high])


def test_one_cluster_has_no_interval_and_nothing_has_no_value():
    assert np.isnan(mean_estimate(np.array([1.0, 2.0]), np.zeros(2, dtype=int), 0.95).low)
    empty = mean_estimate(np.array([np.nan]), np.zeros(1, dtype=int), 0.95)
    assert np.isnan(empty.value)
    assert empty.as_json() == {"value": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize(("hits", "n"), [(0, 24), (3, 24), (24, 24), (1, 2)])
def test_share_is_wilsons(hits, n):
    found = share_estimate(hits, n, 0.95)
    oracle = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([found.low, found.high], [oracle.low, oracle.high], atol=1e-12)


def test_share_of_nothing_is_unknown():
    assert np.isnan(share_estimate(0, 0, 0.95).value)


@pytest.mark.parametrize("n", [3, 5, 12])
def test_mean_covers_the_truth_with_clusters(n):
    rng = np.random.default_rng(n)
    clusters = np.repeat(np.arange(n), 2)
    draws = rng.normal(size=(600, n))[:, clusters] + rng.normal(size=(600, 2 * n))
    covered = [low.low <= 0 <= low.high for low in (mean_estimate(x, clusters, 0.95) for x in draws)]
    assert abs(np.mean(covered) - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / 600)


def test_a_plain_interval_over_seeds_would_undercover():
    """The clusters matter: this is the mistake the previous test guards against."""
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(6), 4)
    draws = rng.normal(size=(400, 6))[:, clusters] + 0.3 * rng.normal(size=(400, 24))
    covered = [x.low <= 0 <= x.high for x in (mean_estimate(y, np.arange(24), 0.95) for y in draws)]
    assert np.mean(covered) < 0.8


@pytest.mark.parametrize("n", [6, 12, 24])
def test_median_covers_the_truth(n):
    rng = np.random.default_rng(n)
    found = [median_estimate(rng.exponential(size=n), np.arange(n), 0.95, rng) for _ in range(150)]
    assert np.mean([each.low <= np.log(2) <= each.high for each in found]) > 0.93


def test_expanded_percentiles_cover_better_than_plain_ones():
    rng = np.random.default_rng(8)
    n, wide, plain = 6, [], []
    for _ in range(400):
        x = rng.normal(size=n)
        means = bootstrap_weights(n, 1000, rng) @ x / n
        low, high = percentiles(means, n, 0.95)
        wide.append(low <= 0 <= high)
        low, high = np.quantile(means, [0.025, 0.975])
        plain.append(low <= 0 <= high)
    assert np.mean(wide) > 0.92 > np.mean(plain) + 0.02


def test_bootstrap_depends_on_its_generator_alone():
    x = np.random.default_rng(0).normal(size=9)
    first, again, other = (median_estimate(x, np.arange(9), 0.9, np.random.default_rng(s)) for s in (4, 4, 5))
    assert first == again
    assert first.n == other.n == 9
