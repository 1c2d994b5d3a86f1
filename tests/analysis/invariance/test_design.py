"""Levels are matched to six digits, and shared seeds are seen."""

import numpy as np
import pandas as pd
import pytest
from _simulated import Truth, grid
from hypothesis import given
from hypothesis import strategies as st

from analysis.invariance.design import Design, arranged, design_of, matched, seeds_per_cell


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=5), st.randoms())
def test_products_of_floats_are_one_level(levels, random):
    levels = [
        level for place, level in enumerate(sorted(levels)) if place == 0 or level > 1.001 * sorted(levels)[place - 1]
    ]
    noisy = [level * (1 + random.uniform(-1e-8, 1e-8)) for level in levels for _ in range(4)]
    random.shuffle(noisy)
    found = matched(noisy)
    assert len(np.unique(found)) == len(levels)
    np.testing.assert_allclose(found, noisy, rtol=1e-6)


def test_rounding_would_split_what_matching_keeps():
    pair = [1.2345650000000001e-3, 1.2345649999999999e-3]
    assert len({f"{value:.6g}" for value in pair}) == 2
    assert len(np.unique(matched(pair))) == 1
    assert len(np.unique(matched([1.0, 1.00001]))) == 2


@pytest.mark.parametrize("design", list(Design))
def test_design_is_seen_with_gaps(design):
    frame = grid(Truth(seeds=6, design=design))
    assert len(frame["intrinsic_lr"].unique()) > 4  # the grid's products do differ in their last bits
    kept = arranged(frame, []).sample(frac=0.85, random_state=1)
    assert design_of(kept) is design


def test_one_ratio_is_no_crossing():
    assert design_of(arranged(grid(Truth(seeds=6, ratios=1)), [])) is Design.INDEPENDENT


def test_repeats_are_averaged_and_gaps_counted():
    frame = pd.DataFrame(
        {"intrinsic_lr": 1e-3, "ratio": [1.0, 1.0, 1.0, 10.0], "seed": [0, 0, 1, 0], "loss": [1.0, 3, 5, np.nan]}
    )
    table = arranged(frame, ["loss"])
    assert table["loss"].tolist()[:2] == [2.0, 5.0]
    assert seeds_per_cell(table) == 1
    assert seeds_per_cell(table, "loss") == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [({"ratio": [0.0]}, "positive"), ({"intrinsic_lr": [np.nan]}, "positive"), ({}, "no columns")],
)
def test_bad_runs_are_refused(change, match):
    frame = pd.DataFrame({"intrinsic_lr": [1e-3], "ratio": [1.0], "seed": [0]}).assign(**change)
    with pytest.raises(ValueError, match=match):
        arranged(frame, [] if change else ["loss"])
