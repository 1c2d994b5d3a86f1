"""The gain: unbiased where there is none, covered where there is one, in words that match."""

import numpy as np
import pytest

from analysis.estimates import Estimate
from analysis.gain import Gain, Verdict, find_gain
from analysis.words import gain_words


def _find(error, rivals, base, clusters=None, generator=0):
    lrs = np.arange(1.0, error.shape[1] + 1)
    sides = [np.zeros(error.shape[1:], dtype=bool) for _ in range(2)]
    for side, places in zip(sides, (rivals, base), strict=True):
        side[places] = True
    clusters = np.arange(len(error)) if clusters is None else clusters
    extra = {"margin": 0.01, "confidence": 0.95, "generator": np.random.default_rng(generator)}
    return find_gain(error, error, *sides, lrs, clusters, **extra)


def _simulate(truth, runs, *, seeds=12, repeats=1, noise=0.03, base=1):
    """Gains of `runs` studies: the first `base` of the rates are regime 1."""
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(seeds), repeats)
    shape = (len(clusters), len(truth), 1)
    found = []
    for run in range(runs):
        shared = rng.normal(size=(seeds, *shape[1:]))[clusters]
        error = 0.25 + np.asarray(truth)[:, None] + noise * (shared + rng.normal(size=shape)) / np.sqrt(2)
        found.append(_find(error, slice(base, None), slice(0, base), clusters, run))
    return found


def test_without_a_true_gain_the_naive_one_is_biased_and_ours_is_not():
    found = _simulate(np.zeros(10), 250)
    ours, naive = np.array([gain.estimate.value for gain in found]), np.array([gain.naive for gain in found])
    standard_error = ours.std() / np.sqrt(len(ours))
    assert abs(ours.mean()) < 3.5 * standard_error
    assert naive.mean() > 0.008  # the winner's curse: about 1.4 standard errors of one rate's mean
    assert np.mean([gain.estimate.low <= 0 <= gain.estimate.high for gain in found]) > 0.93
    assert np.mean([gain.verdict is Verdict.GAIN for gain in found]) < 0.07  # all error of the 95 % on this side


@pytest.mark.parametrize(("repeats", "base"), [(1, 1), (2, 1), (1, 4)])
def test_a_true_gain_is_covered(repeats, base):
    truth = np.r_[np.zeros(base), [-0.05, -0.03, 0.0, 0.02]]
    found = _simulate(truth, 150, seeds=8, repeats=repeats, base=base, noise=0.02)
    assert np.mean([gain.estimate.low <= 0.05 <= gain.estimate.high for gain in found]) > 0.92
    assert np.mean([gain.estimate.value for gain in found]) == pytest.approx(0.05, abs=0.004)


def test_paired_differences_by_hand():
    seeds = np.linspace(0, 0.2, 6)[:, None, None]
    error = 0.3 + seeds + np.array([0.0, -0.1, 0.05])[None, :, None]
    gain = _find(error, slice(1, None), slice(0, 1))
    np.testing.assert_allclose(gain.by_seed, 0.1)
    assert (gain.rival_lr, gain.base_lr) == (2.0, 1.0)
    assert gain.estimate.low == pytest.approx(0.1)  # what seeds share cancels


def test_the_choice_is_made_without_the_seed_it_is_measured_on():
    """Each seed has a rate of its own at which it is lucky; chosen by the others, no seed is lucky."""
    luck = np.zeros((6, 7, 1))
    luck[np.arange(6), np.arange(1, 7)] = -0.6
    gain = _find(0.5 + luck, slice(1, None), slice(0, 1))
    assert gain.naive == pytest.approx(0.1)
    np.testing.assert_allclose(gain.by_seed, 0.0)


def test_data_draws_are_left_out_whole():
    """Both seeds of a draw share its luck: leaving out only one would let the other choose the lucky rate."""
    luck = np.zeros((4, 5, 1))
    luck[np.arange(4), 1 + np.arange(4)] = [[-0.9], [-0.4], [-0.4], [-0.4]]
    luck[:, 1:] += 0.001 * np.arange(4)[None, :, None]  # no ties
    error, rivals, base = 0.5 + np.repeat(luck, 2, axis=0), slice(1, None), slice(0, 1)
    assert np.nanmax(_find(error, rivals, base, np.repeat(np.arange(4), 2)).by_seed) < 0.01
    assert np.nanmax(_find(error, rivals, base, np.arange(8)).by_seed) > 0.8


def test_one_seed_gives_no_interval_and_no_side_gives_nothing():
    error = np.array([0.3, 0.2])[None, :, None]
    gain = _find(error, slice(1, None), slice(0, 1))
    assert gain.verdict is Verdict.UNKNOWN
    assert "nothing can be said" in gain_words(gain, 1)
    assert _find(error, slice(2, None), slice(0, 1)) is None
    assert "nothing to compare" in gain_words(None, 1)


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.104, 0.09, 0.118, "a gain of +10.4 points [+9.0, +11.8]"),
        (0.011, -0.005, 0.027, "not significant with 24 seeds (+1.1 points [-0.5, +2.7])"),
        (-0.014, -0.02, -0.008, "no gain (-1.4 points [-2.0, -0.8])"),
        (0.001, -0.003, 0.005, "no gain (+0.1 points [-0.3, +0.5])"),
        (-0.01, -0.04, 0.02, "not significant with 24 seeds"),
    ],
)
def test_words_claim_what_the_interval_allows(value, low, high, words):
    estimate = Estimate(value, low, high, 24, 0.95)
    gain = Gain(
        estimate=estimate, by_seed=np.zeros(24), naive=value, margin=0.01, rival_lr=1, base_lr=1, base_quality=0
    )
    assert words in gain_words(gain, 24)
