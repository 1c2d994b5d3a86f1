"""Three barriers by their formulas, and how sure one pair's barrier is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.landscape.barriers import Definition, barrier, excess

CHORD, MEAN, WORSE = Definition.CHORD, Definition.MEAN, Definition.WORSE


def height(curve, definition):
    alphas = np.linspace(0, 1, len(curve))
    return barrier(alphas, np.array(curve, dtype=float)[:, None], definition)


def test_unequal_ends_tell_the_definitions_apart():
    curve = [0.1, 0.6, 0.5]  # the chord at one half is 0.3, the mean of the ends too, the worse end is 0.5
    assert height(curve, CHORD).value == pytest.approx(0.3)
    assert height(curve, MEAN).value == pytest.approx(0.3)
    assert height(curve, WORSE).value == pytest.approx(0.1)
    late = [0.1, 0.3, 0.2, 0.55, 0.5]
    assert height(late, CHORD).value == pytest.approx(0.55 - (0.1 + 0.75 * 0.4))
    assert height(late, CHORD).at == 0.75
    assert height(late, MEAN).value == pytest.approx(0.25)
    assert height(late, WORSE).value == pytest.approx(0.05)


def test_a_valley_has_no_barrier_and_its_mean_is_half_of_the_ends_difference():
    assert height([0.5, 0.1, 0.2], CHORD).value == 0
    assert height([0.5, 0.1, 0.2], WORSE).value == 0
    assert height([0.5, 0.1, 0.2], MEAN).value == pytest.approx(0.15)


@given(arrays(np.float64, 9, elements=st.floats(0, 1)))
def test_the_chord_is_above_no_end_and_worse_is_the_smallest(curve):
    values = {definition: height(curve, definition).value for definition in Definition}
    assert min(values.values()) >= -1e-12
    assert values[WORSE] <= min(values[CHORD], values[MEAN]) + 1e-12
    assert values[MEAN] == pytest.approx(values[WORSE] + abs(curve[0] - curve[-1]) / 2)


@given(arrays(np.float64, 7, elements=st.floats(0, 1)), st.floats(-2, 2), st.floats(-2, 2))
def test_a_straight_line_added_leaves_the_chord_barrier_as_it_is(curve, start, slope):
    tilted = curve + start + slope * np.linspace(0, 1, 7)
    assert height(tilted, CHORD).value == pytest.approx(height(curve, CHORD).value, abs=1e-9)


def test_many_curves_at_once():
    alphas, curves = np.linspace(0, 1, 5), np.random.default_rng(0).random((5, 4, 2))
    for definition in Definition:
        found = excess(alphas, curves, definition)
        one = excess(alphas, curves[:, 2, 1], definition)
        np.testing.assert_allclose(found[:, 2, 1], one)


@pytest.mark.parametrize("definition", list(Definition))
def test_standard_error_is_the_spread_over_draws_of_the_samples(definition):
    """Errors of one sample at three points depend on each other: unpaired, the interval would be twice as wide."""
    rng = np.random.default_rng(1)
    alphas, shares, n, draws = np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.45, 0.25]), 300, 1500
    truth = {CHORD: 0.45 - 0.175, MEAN: 0.45 - 0.175, WORSE: 0.2}[definition]
    found = [
        barrier(alphas, (rng.random(n) < shares[:, None]).astype(float), definition) for _ in range(draws)
    ]  # hard samples stay hard: each is wrong wherever the share of errors is above its own level
    values, errors = np.array([(each.value, each.standard_error) for each in found]).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.08)
    covered = [each.interval(0.95).low <= truth <= each.interval(0.95).high for each in found]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_interval_of_no_barrier_starts_at_zero_and_has_the_width_of_the_highest_place_between():
    rng = np.random.default_rng(2)
    samples = (rng.random((3, 400)) < np.array([0.3, 0.1, 0.3])[:, None]).astype(float)
    found = barrier(np.array([0.0, 0.5, 1.0]), samples, CHORD)
    between = samples[1] - (samples[0] + samples[2]) / 2
    assert (found.value, found.at) == (0, 0)
    assert found.standard_error == pytest.approx(between.std(ddof=1) / 20)
    assert found.interval().low == 0
    assert found.interval().high == pytest.approx(1.96 * found.standard_error, rel=1e-3)


def test_what_is_not_a_number_is_said():
    assert np.isnan(height([0.1, np.nan, 0.2], CHORD).value)
    assert np.isnan(height([np.inf, 0.1, 0.2], CHORD).value)
    assert height([0.1, np.inf, 0.2], CHORD).value == np.inf
    assert np.isnan(height([0.1, 0.5, 0.2], CHORD).standard_error)  # one sample has no spread
