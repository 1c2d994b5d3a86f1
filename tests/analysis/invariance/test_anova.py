"""The analysis of variance against scipy, a textbook's sums and arbitrary precision."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from analysis.invariance.anova import increment, quadratic_r2
from analysis.invariance.design import Design


def layout(levels, ratios, seeds):
    level, ratio, seed = (index.ravel() for index in np.indices((levels, ratios, seeds)))
    return 1.0 + level, 10.0**ratio, seed


@pytest.mark.parametrize("seed", range(3))
def test_one_level_of_independent_runs_is_one_way_anova(seed):
    rng = np.random.default_rng(seed)
    levels, ratios, seeds = layout(1, 3, 7)
    y = rng.normal(size=len(levels)) + 0.4 * np.log10(ratios)
    found = increment(y, levels, ratios, seeds, Design.INDEPENDENT)
    oracle = stats.f_oneway(*(y[ratios == ratio] for ratio in np.unique(ratios)))
    assert (found.f, found.p) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert found.df == (2, 18)
    assert found.r2_level == pytest.approx(0)


def test_two_crossed_ratios_are_the_paired_t_test():
    rng = np.random.default_rng(4)
    levels, ratios, seeds = layout(1, 2, 8)
    y = rng.normal(size=len(levels)) + 5 * rng.normal(size=8)[seeds]
    found = increment(y, levels, ratios, seeds, Design.CROSSED)
    oracle = stats.ttest_rel(y[ratios == 1], y[ratios == 10])
    assert (found.f, found.p) == pytest.approx((oracle.statistic**2, oracle.pvalue))
    assert found.df == (1, 7)


def test_levels_are_combined_by_fishers_method():
    rng = np.random.default_rng(5)
    levels, ratios, seeds = layout(4, 3, 6)
    y = rng.normal(size=len(levels)) * levels**2
    found = increment(y, levels, ratios, seeds, Design.INDEPENDENT)
    each = [
        stats.f_oneway(*(y[(levels == level) & (ratios == ratio)] for ratio in np.unique(ratios))).pvalue
        for level in np.unique(levels)
    ]
    assert found.p == pytest.approx(stats.combine_pvalues(each).pvalue)
    np.testing.assert_allclose([level.p for level in found.levels], each)


def test_shares_add_up_as_in_the_textbook():
    rng = np.random.default_rng(6)
    levels, ratios, seeds = layout(3, 2, 5)
    y = rng.normal(size=(3, 2, 5)) + np.arange(3)[:, None, None]
    found = increment(y.ravel(), levels, ratios, seeds, Design.CROSSED)
    total = ((y - y.mean()) ** 2).sum()
    of_levels = 10 * ((y.mean((1, 2)) - y.mean()) ** 2).sum()
    of_cells = 5 * ((y.mean(2) - y.mean()) ** 2).sum()
    assert (found.r2_level, found.gain) == pytest.approx((of_levels / total, (of_cells - of_levels) / total))
    assert found.df == (3, 12)  # a block per seed and level: 30 - 15 blocks - 3
    residual = y - y.mean(1, keepdims=True) - y.mean(2, keepdims=True) + y.mean((1, 2), keepdims=True)
    assert found.f == pytest.approx((of_cells - of_levels) / 3 / ((residual**2).sum() / 12))


@pytest.mark.parametrize("exponent", [-3, -6, -9])
def test_far_tail_is_right(exponent):
    """Down to 1e-60 and beyond, against fifty digits."""
    levels, ratios, seeds = layout(2, 3, 6)
    y = np.log10(ratios) * levels + 10.0**exponent * np.random.default_rng(0).normal(size=len(levels))
    found = increment(y, levels, ratios, seeds, Design.CROSSED)
    with mpmath.workdps(50):
        logs = [
            mpmath.log(mpmath.betainc(d / 2, a / 2, 0, mpmath.mpf(d) / (d + a * mpmath.mpf(f)), regularized=True))
            for a, d, f in (
                (level.df_between, level.df_within, level.between / level.df_between / (level.within / level.df_within))
                for level in found.levels
            )
        ]
        oracle = mpmath.gammainc(len(logs), -mpmath.fsum(logs), regularized=True)
    assert found.p < 1e-20
    assert float(mpmath.log10(oracle)) == pytest.approx(np.log10(found.p), rel=1e-6)


def test_gaps_are_borne():
    """One lost run: least squares on indicators, by hand."""
    rng = np.random.default_rng(7)
    levels, ratios, seeds = layout(1, 3, 5)
    y = rng.normal(size=15) + rng.normal(size=5)[seeds]
    kept = np.arange(15) != 4
    found = increment(y[kept], levels[kept], ratios[kept], seeds[kept], Design.CROSSED)
    blocks = np.eye(5)[seeds[kept]]
    full = np.hstack([blocks, np.eye(3)[np.log10(ratios[kept]).astype(int)][:, 1:]])
    sums = [((y[kept] - basis @ np.linalg.lstsq(basis, y[kept])[0]) ** 2).sum() for basis in (blocks, full)]
    assert found.df == (2, 14 - 7)
    assert found.f == pytest.approx((sums[0] - sums[1]) / 2 / (sums[1] / 7))


def test_no_spread_no_test():
    levels, ratios, seeds = layout(2, 2, 4)
    constant = increment(np.full(16, 0.1), levels, ratios, seeds, Design.CROSSED)
    assert np.isnan(constant.r2_level)
    assert np.isnan(constant.p)
    same = increment(0.1 * levels, levels, ratios, seeds, Design.CROSSED)
    assert same.r2_level == pytest.approx(1)
    assert np.isnan(same.p)
    exact = increment(0.1 * levels + 0.1 * ratios, levels, ratios, seeds, Design.CROSSED)
    assert (exact.f, exact.p) == (np.inf, 0.0)
    assert exact.power(0.05, 0.01) == 1.0
    single = increment(np.arange(4.0), *(x[:4] for x in (levels, ratios, seeds)), Design.CROSSED)
    assert np.isnan(single.p)
    assert np.isnan(single.power(0.05, 0.01))
    assert increment(np.array([]), *(np.array([]) for _ in range(2)), np.array([], dtype=int), Design.CROSSED).n == 0


def test_power_of_one_level_is_the_noncentral_f():
    levels, ratios, seeds = layout(1, 3, 6)
    found = increment(np.random.default_rng(8).normal(size=18), levels, ratios, seeds, Design.INDEPENDENT)
    level = found.levels[0]
    shift = 0.3 * found.total / (level.within / 15)
    oracle = stats.ncf.sf(stats.f.isf(0.01, 2, 15), 2, 15, shift)
    assert found.power(0.3, 0.01) == pytest.approx(oracle, abs=1e-6)
    assert found.power(0.0, 0.01) == pytest.approx(0.01, abs=1e-4)


def test_parabola():
    x = np.linspace(-1, 2, 12)
    assert quadratic_r2(3 * x**2 - x + 1, x) == pytest.approx(1)
    assert quadratic_r2(x**3, x) == pytest.approx(
        1 - np.polyfit(x, x**3, 2, full=True)[1][0] / ((x**3 - (x**3).mean()) ** 2).sum()
    )
    assert quadratic_r2(x, np.repeat([0.0, 1.0], 6)) < 1
    assert np.isnan(quadratic_r2(np.ones(4), x[:4]))
