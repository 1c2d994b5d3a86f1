"""T2 on planted runs."""

import numpy as np
import pytest
from _simulated import Truth, grid, values
from scipy import stats

from analysis.invariance.design import Design
from analysis.invariance.equivalence import equivalence_test, margin_of, seeds_needed
from analysis.invariance.verdict import Verdict


def runs(truth, seed=0):
    rng = np.random.default_rng(seed)
    drawn = {name: values(truth, rng) for name in ("loss", "log_elr:first", "angle:first")}
    frame = grid(truth).assign(**drawn, weight_norm=1.0)
    return frame.assign(loss=np.exp(frame["loss"]), **{"angle:first": np.exp(frame["angle:first"])})


QUIET = (0.01,) * 4


@pytest.mark.parametrize("design", list(Design))
def test_quiet_invariant_runs_are_equivalent(design):
    truth = Truth(seeds=8, noise=QUIET, design=design, seed_spread=0.005, level_seed_spread=0.005)
    found = equivalence_test(runs(truth))
    assert found.verdict is Verdict.EQUIVALENT
    assert found.numbers["passed"] == {"loss": [12, 12], "log_elr:first": [12, 12], "angle:first": [12, 12]}
    assert found.numbers["design"] == design


def test_pairs_are_scipys_paired_tests():
    frame = runs(Truth(seeds=7, noise=(0.03, 0.03)))
    pair = equivalence_test(frame, ["loss"]).numbers["pairs"][0]
    first, second = np.log(frame["loss"].to_numpy()[:7]), np.log(frame["loss"].to_numpy()[7:14])
    low, high = stats.ttest_rel(first, second).confidence_interval(0.9)
    assert pair["interval"] == pytest.approx([low, high])
    assert pair["margin"] == pytest.approx(np.log(1.05))
    gap, width = first - second, np.log(1.05)
    upper, lower = (
        stats.ttest_1samp(gap, edge, alternative=side).pvalue for edge, side in ((width, "less"), (-width, "greater"))
    )
    assert pair["p_within"] == pytest.approx(max(upper, lower))


def test_one_pair_outside_is_inconclusive_and_named():
    frame = runs(Truth(seeds=8, noise=QUIET))
    odd = np.isclose(frame["intrinsic_lr"], 2e-3) & np.isclose(frame["ratio"], 100)
    frame.loc[odd, "loss"] *= 1.045
    found = equivalence_test(frame)
    assert found.verdict is Verdict.INCONCLUSIVE
    worst = found.numbers["worst"]
    assert (worst["metric"], worst["intrinsic_lr"]) == ("loss", pytest.approx(2e-3))
    assert 100 in [pytest.approx(ratio) for ratio in worst["ratios"]]
    assert "loss at intrinsic LR 0.002" in found.reason
    assert "seeds" in found.to_run


def test_metric_that_follows_the_decay_is_different():
    frame = grid(Truth(seeds=6))
    rng = np.random.default_rng(2)
    decay = np.log(frame["intrinsic_lr"] / frame["ratio"]) / 2
    found = equivalence_test(frame.assign(loss=np.exp(0.3 * decay + 0.02 * rng.normal(size=len(frame)))))
    assert found.verdict is Verdict.DIFFERENT
    assert found.numbers["worst"]["p_beyond"] < 1e-6


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(2, Verdict.INCONCLUSIVE), (4, Verdict.INCONCLUSIVE), (5, Verdict.EQUIVALENT)]
)
def test_few_seeds_are_never_equivalent(seeds, verdict):
    found = equivalence_test(runs(Truth(seeds=seeds, noise=(0.001,) * 4)))
    assert found.verdict == verdict


def test_two_seeds_say_nothing_even_of_broken_runs():
    frame = grid(Truth(seeds=2))
    frame = frame.assign(loss=frame["ratio"] * np.exp(1e-6 * np.arange(len(frame))))
    assert equivalence_test(frame).verdict is Verdict.INCONCLUSIVE
    assert equivalence_test(frame).numbers["seeds_needed"]["loss"]["seeds"] >= 5


@pytest.mark.parametrize("design", list(Design))
def test_pilot_says_the_seeds_of_the_noisiest_level(design):
    truth = Truth(seeds=400, noise=(0.02, 0.06), design=design, ratios=2, seed_spread=0.0, level_seed_spread=0.0)
    needed = equivalence_test(runs(truth), ["loss"]).numbers["seeds_needed"]["loss"]
    sd = 0.06 * (np.sqrt(2) if design is Design.CROSSED else 1)
    assert needed["sd"] == pytest.approx(sd, rel=0.1)
    assert needed["seeds"] == seeds_needed(needed["sd"], np.log(1.05), design=design)
    assert needed["seeds_all"] == seeds_needed(needed["sd"], np.log(1.05), power=0.95, design=design)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("loss", np.log(1.05)),
        ("test_loss", np.log(1.05)),
        ("valid_error", 0.01),
        ("log_elr:layers.0.weight", 0.05),
        ("angle:first", np.log(1.03)),
        ("weight_norm", None),
        ("gloss", None),
    ],
)
def test_margins_by_name(name, width):
    margin = margin_of(name)
    assert (margin.width if margin else None) == width


def test_what_cannot_be_compared():
    assert not equivalence_test(runs(Truth(seeds=6, ratios=1))).made
    frame = runs(Truth(seeds=6))
    assert not equivalence_test(frame[["intrinsic_lr", "ratio", "seed"]]).made
    with pytest.raises(ValueError, match="no margin"):
        equivalence_test(frame, ["weight_norm"])


def test_lost_runs_and_losses_of_zero_are_left_out():
    frame = runs(Truth(seeds=8, noise=QUIET)).assign(error=np.nan)
    frame.loc[0, "loss"] = np.nan
    frame.loc[1, "loss"] = 0.0
    found = equivalence_test(frame)
    assert found.numbers["seeds"] == 6
    assert found.verdict is Verdict.EQUIVALENT
    assert "error" not in found.numbers["passed"]
