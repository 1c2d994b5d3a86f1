"""The band: by hand on a known curve, coverage of its edges, and no winner's curse."""

import numpy as np
import pytest

from analysis.band import find_band, stretch

LRS = np.array([1e-4, 3.2e-4, 1e-3, 2e-3, 2.8e-3, 4e-3, 5.6e-3, 8e-3, 1.1e-2, 1.6e-2, 2.2e-2, 3.2e-2])
PEAKED = 1 - np.array([79.7, 80, 80.4, 80.3, 80.2, 87.1, 89.9, 91.3, 90.9, 85.4, 65.7, 29.5]) / 100
FLAT = 0.2 + 0.05 * np.abs(np.log10(LRS / 7e-3)) ** 1.5


def _find(error, generator=0, **changes):
    arguments = {"margin": 0.01, "confidence": 0.95, "generator": np.random.default_rng(generator)} | changes
    return find_band(error, error, LRS[: error.shape[1]], np.arange(len(error)), **arguments)


def test_edges_are_interpolated_in_log_rate():
    assert stretch(np.array([3.0, 1.0, 0.0, 2.0]), 1.5, np.array([1.0, 10, 100, 1000]), 2) == pytest.approx(
        (10**0.75, 10**2.75)
    )


def test_edges_end_with_the_grid():
    assert stretch(np.array([0.0, 0.0, 5.0]), 1.0, np.array([1.0, 10, 100]), 0) == pytest.approx((1, 10**1.2))


def test_a_noiseless_band_by_hand():
    band = _find(np.tile(PEAKED, (6, 1)))
    low, high = stretch(PEAKED, PEAKED.min() + 0.01, LRS, 7)
    assert band.optimum_lr == 8e-3
    assert (band.low, band.high) == pytest.approx((low, high))
    assert band.low_ci == pytest.approx((low, low))
    assert band.high_ci == pytest.approx((high, high))
    assert not band.open_low
    assert not band.open_high


def test_a_second_peak_does_not_join_the_band():
    error = np.full(12, 0.3)
    error[2] = 0.105
    error[8] = 0.1
    band = _find(np.tile(error, (4, 1)))
    assert band.optimum_lr == LRS[8]
    assert band.low > LRS[7]


def test_units_without_values_and_an_empty_study():
    error = np.tile(PEAKED, (4, 1))
    error[0, :] = np.nan
    error[:, 3] = np.nan
    assert _find(error).optimum_lr == 8e-3
    assert _find(np.full((4, 12), np.nan)) is None
    one = _find(error[1:2])
    assert one.optimum_lr == 8e-3
    assert np.isnan(one.low_ci).all()


@pytest.mark.parametrize(
    ("truth", "seeds", "noise"), [(PEAKED, 8, 0.01), (PEAKED, 24, 0.03), (FLAT, 8, 0.03), (FLAT, 24, 0.01)]
)
def test_intervals_cover_the_true_edges_and_the_band_is_not_biased(truth, seeds, noise):
    low, high = stretch(truth, truth.min() + 0.01, LRS, int(truth.argmin()))
    rng = np.random.default_rng(seeds)
    hits, shifts = [], []
    for run in range(120):
        error = truth + 0.02 * rng.normal(size=(seeds, 1)) + noise * rng.normal(size=(seeds, len(LRS)))
        band = _find(error, run)
        hits.append([_within(low, band.low_ci), _within(high, band.high_ci)])
        shifts.append([np.log10(band.low / low), np.log10(band.high / high)])
    assert (np.mean(hits, axis=0) > 0.91).all()  # 0.95 less two standard errors of 120 runs
    assert (np.abs(np.mean(shifts, axis=0)) < 0.08).all()


def _within(value, interval):
    return interval[0] * (1 - 1e-9) <= value <= interval[1] * (1 + 1e-9)
