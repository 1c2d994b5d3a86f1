"""Student's tests against scipy, and the seeds TOST needs against simulation-free bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.invariance.design import Design
from analysis.invariance.sample_size import seeds_needed, tost_power
from analysis.invariance.student import Difference, holm, one_sample, paired, welch


def samples(seed=0, n=9, m=6):
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1.0, n), rng.normal(0.0, 3.0, m)


@pytest.mark.parametrize("margin", [0.2, 1.5, 4.0])
@pytest.mark.parametrize("kind", ["welch", "paired"])
def test_two_one_sided_tests_are_scipys(kind, margin):
    a, b = samples()
    if kind == "paired":
        b = np.resize(b, len(a))
        found, test = paired(a, b), lambda shift, side: stats.ttest_rel(a + shift, b, alternative=side).pvalue
    else:
        found = welch(a, b)

        def test(shift, side):
            return stats.ttest_ind(a + shift, b, equal_var=False, alternative=side).pvalue

    assert found.p_within(margin) == pytest.approx(max(test(margin, "greater"), test(-margin, "less")))
    size = margin if found.value > 0 else -margin
    side = ("greater", "less") if found.value > 0 else ("less", "greater")
    assert found.p_beyond(margin) == pytest.approx(min(test(-size, side[0]) + (1 - test(size, side[1])), 1))
    assert found.p_beyond(0.0) == pytest.approx(2 * min(test(0.0, "greater"), test(0.0, "less")))


def test_interval_is_students_and_agrees_with_the_test():
    a, b = samples(3)
    found = welch(a, b)
    oracle = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    np.testing.assert_allclose(found.interval(0.9), oracle)
    edge = max(abs(oracle.low), abs(oracle.high))
    assert found.p_within(edge) == pytest.approx(0.05)


def test_without_spread_or_with_too_little_data():
    still = one_sample(np.full(4, 0.25))
    assert (still.p_within(0.5), still.p_beyond(0.5)) == (0.0, 1.0)
    assert (still.p_within(0.1), still.p_beyond(0.1)) == (1.0, 0.0)
    assert still.interval(0.9) == (0.25, 0.25)
    assert np.isnan(one_sample(np.array([1.0, np.nan])).p_within(1.0))
    assert np.isnan(welch(np.array([1.0]), np.array([1.0, 2.0])).p_beyond(0.1))
    assert one_sample(np.array([])).n == 0


def test_pairs_that_lost_a_run_are_left_out():
    found = paired(np.array([1.0, np.nan, 3.0, 5.0]), np.array([0.0, 1.0, np.nan, 1.0]))
    assert (found.value, found.n) == (2.5, 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_closed_test_of_bonferroni(p):
    """A hypothesis is rejected where every set that holds it is, by the smallest p times the size of the set."""
    found = holm(p)
    order = sorted(range(len(p)), key=lambda place: p[place])
    for place, value in enumerate(p):
        # The hardest set of each size holds this hypothesis and the largest of the others.
        hardest = []
        for size in range(1, len(p) + 1):
            others = [p[each] for each in reversed(order) if each != place][: size - 1]
            hardest.append(min(min([value, *others]) * size, 1.0))
        assert found[place] == pytest.approx(max(hardest))


def test_holm_leaves_out_what_was_not_made():
    found = holm([0.01, np.nan, 0.03])
    np.testing.assert_allclose(found, [0.02, np.nan, 0.03])


@pytest.mark.parametrize(("ratio", "card"), [(0.5, 6), (0.7, 11), (2.0, 87)])
def test_seeds_are_near_the_normal_approximation(ratio, card):
    """21.6 (sd / margin)^2, plus what the estimated spread costs."""
    assert card <= seeds_needed(ratio, 1.0) <= card + 2
    assert seeds_needed(ratio * np.sqrt(2), 1.0, design=Design.CROSSED) - card in (0, 1, 2)


@pytest.mark.parametrize("design", list(Design))
@pytest.mark.parametrize("ratio", [0.1, 0.6, 1.7])
def test_seeds_are_the_fewest(design, ratio):
    n = seeds_needed(ratio, 1.0, design=design)
    assert tost_power(n, ratio, 1.0, design) >= 0.9
    assert n == 2 or tost_power(n - 1, ratio, 1.0, design) < 0.9


@pytest.mark.parametrize("seeds", [3, 6, 20])
def test_power_is_the_double_integral(seeds):
    """Over the estimate and its spread, by quadrature."""
    from scipy.integrate import quad

    sd, margin, df = 0.5, 1.0, seeds - 1
    t = stats.t.ppf(0.95, df)

    def given(s):
        room = (margin - t * s / np.sqrt(seeds)) * np.sqrt(seeds) / sd
        density = stats.chi.pdf(s / sd * np.sqrt(df), df) * np.sqrt(df) / sd
        return max(2 * stats.norm.cdf(room) - 1, 0.0) * density

    oracle = quad(given, 0, margin * np.sqrt(seeds) / t, limit=200)[0]
    assert tost_power(seeds, sd, margin, Design.CROSSED) == pytest.approx(oracle, abs=3e-4)


def test_impossible_margins_are_refused():
    with pytest.raises(ValueError, match="more than"):
        seeds_needed(1.0, 1e-4)
    with pytest.raises(ValueError, match="need margin"):
        seeds_needed(1.0, 0.0)
    assert tost_power(5, 0.0, 1.0, Design.CROSSED) == 1.0
    assert Difference(value=0.0, error=np.nan, df=1, n=1, sd=np.nan).interval(0.9)[0] != 0
