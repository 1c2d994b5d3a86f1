"""Tests against chance: exact, corrected, and as often wrong as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.above_chance import above_chance, detectable


@given(hits=st.lists(st.integers(0, 40), min_size=1, max_size=6), chance=st.sampled_from([0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_holm_over_exact_binomial_tests(hits, chance):
    p = [stats.binomtest(hit, 40, chance, alternative="greater").pvalue for hit in hits]
    oracle = [False] * len(p)
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[place] * (len(p) - rank) > 0.05:
            break
        oracle[place] = True
    found = above_chance(np.array(hits) / 40, 40, chance, 0.95)
    assert found.tolist() == oracle


def test_networks_that_guess_are_called_out_as_seldom_as_promised():
    hits = np.random.default_rng(5).binomial(1000, 0.1, (4000, 8))
    wrong = above_chance(hits / 1000, 1000, 0.1, 0.95).any(axis=1).mean()
    assert 0.02 < wrong < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)


def test_what_was_not_measured_is_not_above_chance_and_costs_no_test():
    accuracy = np.array([0.6, np.nan, np.nan, np.nan])
    needed = detectable(1, 100, 0.5, 0.95)
    assert needed <= 0.6 < detectable(4, 100, 0.5, 0.95)
    assert above_chance(accuracy, 100, 0.5, 0.95).tolist() == [True, False, False, False]
    assert above_chance(np.full((2, 3), np.nan), 100, 0.5, 0.95).sum() == 0
    assert above_chance(np.empty((0, 3)), 100, 0.5, 0.95).shape == (0, 3)


def test_detectable_is_the_least_accuracy_that_counts():
    least = detectable(16, 1000, 0.5, 0.95)
    assert 0.54 < least < 0.55
    others = np.full(15, 0.5)
    assert above_chance(np.array([least, *others]), 1000, 0.5, 0.95)[0]
    assert not above_chance(np.array([least - 1e-3, *others]), 1000, 0.5, 0.95)[0]
    assert detectable(16, 3, 0.5, 0.95) > 1
    assert detectable(1, 1000, 0.1, 0.95) == pytest.approx(stats.binom.isf(0.05, 1000, 0.1) / 1000 + 1e-3)
