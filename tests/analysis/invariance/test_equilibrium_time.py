"""T3: first crossings, rates and the law of times, against exact curves and planted slopes."""

import numpy as np
import pandas as pd
import pytest
from _simulated import LAYER, Truth, grid, relaxing, times
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.invariance.design import Design
from analysis.invariance.equilibrium_time import (
    equilibrium_time_test,
    first_crossing,
    log_distance,
    relaxation_rate,
    time_law,
)
from analysis.invariance.verdict import Verdict
from analysis.laws import equilibrium_steps

KICK = 1.3**4


@given(st.floats(1e-4, 1e-2), st.floats(0.0, 40.0), st.floats(0.01, 0.3), st.integers(2, 60))
def test_crossing_of_an_exponential_is_exact_between_samples(rate, start, tolerance, gap):
    steps = np.arange(0, int(20 / rate), gap)
    values = 5.0 * (1 + (start - 1) * np.exp(-4 * rate * steps))
    found = first_crossing(steps, values, 5.0, tolerance)
    assert found == pytest.approx(equilibrium_steps(rate, start, tolerance), abs=1e-6 * steps[-1])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1.05, 3.0, 1.0], 0.0),  # starts inside
        ([3.0, 2.0, 1.5], np.nan),  # never arrives
        ([3.0, np.nan, 0.5], 0 + 20 * (2 - 0.1) / 2.5),  # jumps across, a sample lost
        ([0.5, 1.2, 1.0], 0 + 10 * (0.5 - 0.1) / 0.7),  # across from below
        (
            [2.0, 1.0, 5.0],
            0.0 + 10 * np.log(10) / np.log(1 / np.finfo(float).tiny),
        ),  # and leaves again: the first counts
        ([], np.nan),
    ],
)
def test_crossings_by_hand(values, wanted):
    found = first_crossing(np.arange(len(values)) * 10, values, 1.0)
    assert found == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize("target", [np.nan, 0.0, -1.0, np.inf])
def test_without_a_target_nothing_is_known(target):
    assert np.isnan(first_crossing([0, 1], [1.0, 1.0], target))
    assert np.isnan(relaxation_rate(np.arange(9), np.ones(9), target))


@pytest.mark.parametrize("start", [KICK, 0.2, 30.0])
def test_rate_of_an_exponential_is_exact(start):
    steps = np.arange(0, 4000, 10)
    values = 7.0 * (1 + (start - 1) * np.exp(-0.004 * steps))
    assert relaxation_rate(steps, values, 7.0) == pytest.approx(0.004, rel=1e-6)


def test_rate_under_fluctuation_is_right_on_average():
    rng = np.random.default_rng(0)
    steps = np.arange(0, 6000, 10)
    found = [relaxation_rate(steps, relaxing(1e-3, KICK, 0.05, steps, rng), 1.0) for _ in range(150)]
    assert np.mean(found) == pytest.approx(4e-3, rel=0.03)
    assert np.std(found) < 0.08 * 4e-3  # 0.11 without weights


def test_first_crossings_give_the_slope_that_last_exits_get_wrong():
    rng = np.random.default_rng(1)
    levels, first, last = np.repeat([1e-3, 2e-3, 4e-3, 8e-3], 30), [], []
    for level in levels:
        steps = np.arange(0, 8000, 10)
        values = relaxing(level, KICK, 0.04 * np.sqrt(level / 1e-3), steps, rng)
        first.append(first_crossing(steps, values, 1.0))
        last.append(steps[np.flatnonzero(np.abs(values - 1) > 0.1)[-1]])
    slopes = [np.polyfit(np.log(levels), np.log(t), 1)[0] for t in (first, last)]
    assert slopes[0] == pytest.approx(-1, abs=0.1)
    assert slopes[1] > -0.2


@pytest.mark.parametrize("rate", [-3, 5])
def test_too_short_for_a_rate(rate):
    assert np.isnan(relaxation_rate([0, 1, 2], [3.0, 2.0, 1.0], 1.0))
    assert np.isnan(relaxation_rate(np.arange(9), np.full(9, 1.0 + rate), 1.0))  # never relaxes: all is fluctuation


def test_slope_of_independent_runs_is_least_squares():
    frame = times(Truth(seeds=6, design=Design.INDEPENDENT), np.random.default_rng(2))
    found = time_law(frame)
    oracle = stats.linregress(np.log(frame["intrinsic_lr"]), np.log(frame["steps"]))
    assert (found.slope, found.intercept, found.r2) == pytest.approx((oracle.slope, oracle.intercept, oracle.rvalue**2))
    assert found.error == pytest.approx(oracle.stderr, rel=0.15)  # jackknife against equal spread
    assert (found.units, found.df) == (72, 70)


def test_crossed_seeds_are_students_interval_of_their_slopes():
    frame = times(Truth(seeds=7), np.random.default_rng(3), slope_spread=0.2)
    found = time_law(frame)
    own = [np.polyfit(np.log(each["intrinsic_lr"]), np.log(each["steps"]), 1)[0] for _, each in frame.groupby("seed")]
    oracle = stats.ttest_1samp(own, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((oracle.low, oracle.high), rel=1e-6)
    assert (found.units, found.df) == (7, 6)


def test_unequal_starts_need_their_regressor():
    frame = grid(Truth(seeds=6))
    rng = np.random.default_rng(4)
    # Further away where the rate is high, and by ratio.
    start = 1 + 10 * frame["intrinsic_lr"] / 1e-3 * np.log2(1 + frame["ratio"])
    theory = [equilibrium_steps(rate, ratio) for rate, ratio in zip(frame["intrinsic_lr"], start, strict=True)]
    frame = frame.assign(steps=theory * np.exp(0.03 * rng.normal(size=len(frame))), distance=log_distance(start))
    assert time_law(frame).slope > -0.9
    found = time_law(frame, ["distance"])
    assert found.interval[0] < -1 < found.interval[1]
    assert found.further[0] == pytest.approx(1, abs=0.25)
    assert found.r2 > time_law(frame).r2


def test_log_distance_is_the_log_of_the_theory_time():
    np.testing.assert_allclose(log_distance([2.856, 1.05]), [np.log(np.log(18.56)), np.nan])


@pytest.mark.parametrize("design", list(Design))
def test_planted_law_is_equivalent(design):
    truth = Truth(seeds=8, noise=(0.05,) * 4, design=design)
    found = equilibrium_time_test(times(truth, np.random.default_rng(5)))
    assert found.verdict is Verdict.EQUIVALENT
    layer = found.numbers["layers"][LAYER]
    assert layer["interval"][0] < -1 < layer["interval"][1]
    assert layer["rate_slope"] == pytest.approx(-layer["slope"], abs=1e-9)


def test_other_laws_are_not():
    rng = np.random.default_rng(6)
    truth = Truth(seeds=8, noise=(0.05,) * 4)
    assert equilibrium_time_test(times(truth, rng, slope=-0.5)).verdict is Verdict.DIFFERENT
    near = equilibrium_time_test(times(truth, rng, slope=-0.9))
    assert near.verdict is Verdict.INCONCLUSIVE
    assert "is outside" in near.reason
    by_ratio = equilibrium_time_test(times(Truth(seeds=8, noise=(0.05,) * 4, violation=0.5), rng))
    assert by_ratio.verdict is Verdict.INCONCLUSIVE
    assert "depends on the ratio" in by_ratio.reason
    wide = equilibrium_time_test(times(Truth(seeds=5, noise=(0.6,) * 4), rng))
    assert "wider" in wide.reason


def test_one_different_layer_decides():
    rng = np.random.default_rng(7)
    truth = Truth(seeds=8, noise=(0.05,) * 4)
    good, bad = times(truth, rng), times(truth, rng, slope=-0.4).assign(layer="odd")
    found = equilibrium_time_test(pd.concat([good, bad]))
    assert found.verdict is Verdict.DIFFERENT
    assert (found.numbers["equivalent"], found.numbers["different"]) == ([LAYER], ["odd"])


@pytest.mark.parametrize("design", list(Design))
@pytest.mark.parametrize(("seeds", "slope"), [(2, -1.0), (2, -0.3), (4, -1.0)])
def test_few_seeds_are_inconclusive(seeds, slope, design):
    frame = times(Truth(seeds=seeds, noise=(1e-3,) * 4, design=design), np.random.default_rng(8), slope)
    assert equilibrium_time_test(frame).verdict is Verdict.INCONCLUSIVE


def test_runs_that_never_arrived():
    frame = times(Truth(seeds=8, noise=(0.05,) * 4), np.random.default_rng(9))
    slow = frame.index[::9]  # at most one in a cell
    few = frame.assign(steps=frame["steps"].where(~frame.index.isin(slow)))
    found = equilibrium_time_test(few)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "11 of 96 runs never arrived" in found.reason
    assert found.numbers["layers"][LAYER]["seeds"] >= 6
    none = equilibrium_time_test(frame.assign(steps=np.nan))
    assert not none.made
    assert "kick" in none.to_run


def test_one_level_has_no_slope():
    assert not equilibrium_time_test(times(Truth(seeds=5, noise=(0.1,)), np.random.default_rng(0))).made
    assert np.isnan(time_law(times(Truth(seeds=5, noise=(0.1,)), np.random.default_rng(0))).slope)
