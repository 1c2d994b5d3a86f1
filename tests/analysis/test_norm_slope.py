"""The slope of log norm on log ratio against closed forms, and how often its interval holds the truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lawful import LAYERS, PRODUCTS, RATIOS, lawful_runs
from scipy import stats

from analysis.invariance.norm_slope import norm_slope

COLUMN = f"norm_sq:{LAYERS[0]}"


def test_the_law_itself_has_slope_one_quarter():
    found = norm_slope(lawful_runs(spread=0.0), COLUMN)
    assert found.value == pytest.approx(0.25, abs=1e-12)
    assert found.high - found.low < 1e-10
    assert found.n == 120


def test_shared_seeds_give_students_interval_of_the_seeds_own_slopes():
    runs = lawful_runs(seeds=6, spread=0.3)
    slopes = []
    for _, own in runs.groupby("seed"):
        y = np.log(own[COLUMN]) / 2
        basis = np.column_stack([np.log(own["ratio"]), *(own["intrinsic_lr"] == level for level in PRODUCTS)])
        slopes.append(np.linalg.lstsq(basis.astype(float), y)[0][0])
    expected = stats.ttest_1samp(slopes, 0).confidence_interval(0.9)
    found = norm_slope(runs, COLUMN, 0.9)
    assert found.value == pytest.approx(np.mean(slopes), rel=1e-10)
    assert found.interval == pytest.approx(tuple(expected), rel=1e-8)


def test_independent_runs_give_the_jackknife_over_runs():
    runs = lawful_runs(seeds=3, spread=0.3).query("intrinsic_lr == 0.001").assign(seed=range(9))
    x, y = np.log(runs["ratio"]).to_numpy(), np.log(runs[COLUMN]).to_numpy() / 2
    left_out = np.array([stats.linregress(np.delete(x, i), np.delete(y, i)).slope for i in range(9)])
    error = np.sqrt(8 / 9 * ((left_out - left_out.mean()) ** 2).sum())
    found = norm_slope(runs, COLUMN)
    assert found.value == pytest.approx(stats.linregress(x, y).slope, rel=1e-10)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 7) * error, rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(scales=st.lists(st.floats(0.01, 100), min_size=4, max_size=4))
def test_what_a_level_multiplies_does_not_matter(scales):
    runs = lawful_runs(seeds=3)
    factor = runs["intrinsic_lr"].map(dict(zip(PRODUCTS, scales, strict=True)))
    expected, found = norm_slope(runs, COLUMN), norm_slope(runs.assign(**{COLUMN: runs[COLUMN] * factor}), COLUMN)
    assert (found.value, *found.interval) == pytest.approx((expected.value, *expected.interval), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_the_interval_holds_the_truth_as_often_as_it_says(shared):
    rng = np.random.default_rng(5)
    draws, inside = 600, 0
    for _ in range(draws):
        runs = lawful_runs(seeds=4, spread=0.2, seed=int(rng.integers(2**31)))
        own = rng.normal(size=4)[runs["seed"]] * np.log(runs["ratio"]) * 0.02  # seeds have slopes of their own
        runs[COLUMN] *= np.exp(own) if shared else 1.0
        if not shared:
            runs["seed"] = np.arange(len(runs))
        found = norm_slope(runs, COLUMN, 0.9)
        inside += found.low <= 0.25 <= found.high
    low, high = stats.binom.interval(0.999, draws, 0.9)
    assert low <= inside <= high


def test_too_little_data_is_no_crash():
    runs = lawful_runs(seeds=1)
    one = norm_slope(runs, COLUMN)
    assert one.value == pytest.approx(0.25, abs=0.01)
    assert np.isnan(one.low)
    assert np.isnan(norm_slope(runs[runs["ratio"] == RATIOS[0]], COLUMN).value)
    assert norm_slope(runs.assign(**{COLUMN: np.nan}), COLUMN).n == 0
    gaps = runs.assign(**{COLUMN: np.where(runs["ratio"] == 10, -1.0, runs[COLUMN])})
    assert norm_slope(gaps, COLUMN).n == 8
    with pytest.raises(ValueError, match="no columns"):
        norm_slope(pd.DataFrame({"intrinsic_lr": [1.0]}), COLUMN)
