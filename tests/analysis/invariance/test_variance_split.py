"""T1 on planted runs: invariant, un-normalised, too few, incomplete."""

import numpy as np
import pytest
from _simulated import Truth, grid, values

from analysis.invariance.design import Design
from analysis.invariance.variance_split import rejection_p, variance_split_test
from analysis.invariance.verdict import Verdict

METRICS = ("loss", "log_elr:first", "angle:first")


def runs(truth, seed=0):
    """Loss, effective LR and angle that follow the intrinsic LR, and an error that hardly does."""
    rng = np.random.default_rng(seed)
    frame = grid(truth).assign(**{name: values(truth, rng) for name in METRICS})
    return frame.assign(error=0.08 + 0.01 * rng.normal(size=len(frame)))


def follows_decay(seeds=6):
    """A network without normalisation: every metric follows the weight decay alone."""
    frame, rng = grid(Truth(seeds=seeds)), np.random.default_rng(1)
    decay = np.log(frame["intrinsic_lr"] / frame["ratio"]) / 2
    return frame.assign(**{name: 0.3 * decay + 0.02 * rng.normal(size=len(frame)) for name in METRICS})


@pytest.mark.parametrize("design", list(Design))
def test_invariant_runs_are_equivalent(design):
    found = variance_split_test(runs(Truth(seeds=8, design=design)))
    assert found.verdict is Verdict.EQUIVALENT
    loss, error = (found.numbers["metrics"][name] for name in ("loss", "error"))
    assert loss["r2_intrinsic_lr"] > 0.98
    assert loss["power"] > 0.99
    # Parabolas see the share of the product in rate or decay alone: 0.145 for 4 levels x 2 against 3 ratios x 10.
    assert loss["r2_log_lr"] == pytest.approx(0.145, abs=0.03)
    assert loss["r2_log_weight_decay"] == pytest.approx(0.145, abs=0.03)
    assert not error["judged"]
    assert error["p_holm"] is None
    assert found.numbers["design"] == design
    assert found.numbers["seeds"] == 8


def test_a_metric_that_follows_the_decay_alone_is_different():
    frame = follows_decay()
    found = variance_split_test(frame)
    assert found.verdict is Verdict.DIFFERENT
    for name in METRICS:
        assert found.numbers["metrics"][name]["p_holm"] < 1e-6
        assert found.numbers["metrics"][name]["gain"] > 0.5
        assert found.numbers["metrics"][name]["r2_log_weight_decay"] > 0.97
    assert rejection_p(frame, "loss") == found.numbers["metrics"]["loss"]["p"]


def test_one_broken_metric_is_enough():
    frame = runs(Truth(seeds=6)).assign(loss=follows_decay()["loss"])
    found = variance_split_test(frame)
    assert found.verdict is Verdict.DIFFERENT
    assert "loss" in found.reason
    assert "1 of 3" in found.reason


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(2, Verdict.INCONCLUSIVE), (4, Verdict.INCONCLUSIVE), (5, Verdict.EQUIVALENT)]
)
def test_few_seeds_are_never_equivalent(seeds, verdict):
    found = variance_split_test(runs(Truth(seeds=seeds)))
    assert found.verdict == verdict
    assert bool(found.to_run) is (verdict == "INCONCLUSIVE")


@pytest.mark.parametrize(("seeds", "verdict"), [(2, Verdict.INCONCLUSIVE), (3, Verdict.DIFFERENT)])
def test_two_seeds_say_nothing_even_of_broken_runs(seeds, verdict):
    assert variance_split_test(follows_decay(seeds)).verdict is verdict


def test_noise_that_would_hide_a_difference_is_inconclusive():
    found = variance_split_test(runs(Truth(seeds=5, noise=(0.5,) * 4)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "would have been seen with probability" in found.reason


def test_a_sure_but_tiny_effect_is_neither_let_pass_nor_called_a_difference():
    found = variance_split_test(runs(Truth(seeds=8, noise=(0.003,) * 4, seed_spread=0.003, violation=0.02)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "too little to call a difference" in found.reason
    assert found.numbers["metrics"]["loss"]["gain"] < 0.01


def test_levels_that_explain_little_are_inconclusive():
    # The spread of the seeds is large and shared: a ratio's effect would be seen although the levels' share is small.
    truth = Truth(seeds=8, noise=(0.01,) * 4, seed_spread=0.5, step=0.1)
    found = variance_split_test(runs(truth))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "say little" in found.reason


def test_one_level_is_inconclusive_and_one_ratio_cannot_be_tested():
    assert "one intrinsic learning rate" in variance_split_test(runs(Truth(seeds=6, noise=(0.03,)))).reason
    single = variance_split_test(runs(Truth(seeds=6, ratios=1)))
    assert not single.made
    assert "ratios" in single.to_run


def test_constant_missing_and_deterministic_metrics_are_told():
    frame = runs(Truth(seeds=6))
    frame = frame.assign(constant=1.0, absent=np.nan, still=np.log(frame["intrinsic_lr"].round(6)))
    frame.loc[frame.index[3], "loss"] = np.nan
    found = variance_split_test(frame)
    notes = {name: each["note"] for name, each in found.numbers["metrics"].items()}
    assert notes["constant"] == "the same number in every run"
    assert notes["absent"] == "not measured in any run"
    assert notes["still"] == "the same number for every seed"
    assert notes["loss"] == ""
    assert found.numbers["metrics"]["loss"]["lost"] == 1
    assert found.verdict is Verdict.EQUIVALENT
    nothing = variance_split_test(frame, ["constant", "absent"])
    assert nothing.verdict is Verdict.INCONCLUSIVE


def test_bad_columns_are_refused():
    with pytest.raises(ValueError, match="no columns"):
        variance_split_test(runs(Truth(seeds=3)), ["accuracy"])
