"""Thresholds: brackets by hand, coverage by simulation."""

import numpy as np
import pytest

from analysis.thresholds import brackets, threshold

LRS = np.array([1e-4, 1e-3, 1e-2, 1e-1])


def _rows(*texts):
    """`c` lower side, `x` upper side, `?` not known."""
    cells = np.array([list(text) for text in texts])
    return cells == "c", cells == "x"


@pytest.mark.parametrize(
    ("row", "bracket"),
    [
        ("ccxx", (1e-3, 1e-2)),
        ("cxxx", (1e-4, 1e-3)),
        ("cccc", (1e-1, np.inf)),
        ("xxxx", (0, 1e-4)),
        ("c?xx", (1e-4, 1e-2)),
        ("cc??", (1e-3, np.inf)),
        ("cxcx", (1e-4, 1e-1)),
        ("ccxc", (1e-3, np.inf)),
    ],
)
def test_brackets_by_hand(row, bracket):
    low, high = brackets(*_rows(row), LRS)
    assert (low[0], high[0]) == bracket


def test_value_is_the_geometric_mean_and_the_interval_at_least_the_bracket():
    found = threshold(*_rows(*["ccxx"] * 8), LRS, np.arange(8), 0.95, np.random.default_rng(0))
    assert found.value == pytest.approx(np.sqrt(1e-3 * 1e-2))
    assert (found.low, found.high) == (1e-3, 1e-2)
    assert found.n == 8


def test_beyond_the_grid_is_null_in_json():
    above = threshold(*_rows(*["cccc"] * 6), LRS, np.arange(6), 0.95, np.random.default_rng(0))
    below = threshold(*_rows(*["xxxx"] * 6), LRS, np.arange(6), 0.95, np.random.default_rng(0))
    assert above.value == np.inf
    assert below.value == 0
    assert above.json_value is below.json_value is None
    assert above.ci == [1e-1, None]
    assert below.ci == [None, 1e-4]


def test_seeds_of_which_nothing_is_known_do_not_count():
    found = threshold(*_rows("ccxx", "????", "ccxx"), LRS, np.arange(3), 0.95, np.random.default_rng(0))
    assert found.n == 2


@pytest.mark.parametrize(("draws", "repeats", "spread"), [(3, 1, 0.3), (8, 1, 0.3), (12, 2, 0.6)])
def test_interval_covers_the_true_median(draws, repeats, spread):
    lrs = np.logspace(-4, -1, 25)
    rng = np.random.default_rng(draws)
    clusters = np.repeat(np.arange(draws), repeats)
    covered = []
    for _ in range(200):
        shared, own = rng.normal(size=draws)[clusters], rng.normal(size=draws * repeats)
        edges = np.log(3e-3) + spread * (shared + own) / np.sqrt(2)
        inside = np.log(lrs) < edges[:, None]
        found = threshold(inside, ~inside, lrs, clusters, 0.95, rng)
        covered.append(found.low <= 3e-3 <= found.high)
    assert np.mean(covered) >= 0.93
