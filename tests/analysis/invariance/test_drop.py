"""T5 on planted drops."""

import numpy as np
import pandas as pd
import pytest
from _simulated import LAYER, drops

from analysis.invariance.drop import checks_of, drop_test
from analysis.invariance.verdict import Verdict


def planted(seeds=8, spread=0.01, **off):
    return drops(seeds, np.random.default_rng(0), spread=spread, **off)


def test_what_theory_says_is_equivalent():
    found = drop_test(planted())
    assert found.verdict is Verdict.EQUIVALENT
    expected = {(each["what"], each["arm"]): each["expected"] for each in found.numbers["checks"]}
    assert expected["effective LR just after the drop", "lr"] == pytest.approx(0.1)
    assert expected["effective LR just after the drop", "weight_decay"] == pytest.approx(1.0)
    assert expected["angle at the end", "lr"] == pytest.approx(np.sqrt(0.1))
    assert expected["effective LR at the end", "lr"] == pytest.approx(np.sqrt(0.1 / 2))  # E[G] has doubled
    for each in found.numbers["checks"]:
        assert each["found"] == pytest.approx(each["expected"], rel=0.02)
        assert each["interval"][0] < each["found"] < each["interval"][1]


@pytest.mark.parametrize(
    ("off", "words"),
    [
        ({"after": 0.15}, "just after"),
        ({"angle": -0.15}, "angle at the end"),
        ({"end": 0.2}, "effective LR at the end"),
        ({"loss": 0.2}, "end loss"),
    ],
)
def test_each_check_can_decide(off, words):
    found = drop_test(planted(**off))
    assert found.verdict is Verdict.DIFFERENT
    assert words in found.reason


def test_a_point_within_the_margin_is_not_enough():
    found = drop_test(planted(spread=0.08))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "does not" in found.reason


@pytest.mark.parametrize(
    ("seeds", "loss", "verdict"),
    [(2, 0.0, "INCONCLUSIVE"), (2, 1.0, "INCONCLUSIVE"), (4, 0.0, "INCONCLUSIVE"), (5, 0.0, "EQUIVALENT")],
)
def test_few_seeds(seeds, loss, verdict):
    assert drop_test(planted(seeds, spread=1e-3, loss=loss)).verdict == verdict


def test_factors_are_judged_apart_and_equal_ones_matched():
    half = drops(6, np.random.default_rng(1), factor=0.5)
    tenth = planted()
    tenth["factor"] = np.where(tenth.index % 2, 0.1, 0.1 * (1 + 1e-12))
    checks = checks_of(pd.concat([tenth, half]))
    assert sorted({check.factor for check in checks}) == pytest.approx([0.1, 0.5])
    assert len(checks) == 14


def test_arms_of_other_seeds_are_compared_unpaired():
    frame = planted()
    own = frame.assign(seed=np.where(frame["arm"] == "lr", frame["seed"], frame["seed"] + 100))
    paired, unpaired = (next(c for c in checks_of(each) if c.arm == "both") for each in (frame, own))
    assert (paired.difference.df, paired.difference.n) == (7, 8)
    assert unpaired.difference.df > 7
    assert paired.difference.value == pytest.approx(unpaired.difference.value)


def test_one_arm_alone_cannot_be_tested():
    found = drop_test(planted().query("arm == 'lr'"))
    assert not found.made
    assert "weight decay" in found.to_run


def test_what_was_not_measured_is_left_out():
    frame = planted()
    frame.loc[0, f"elr_after:{LAYER}"] = np.nan
    found = drop_test(frame)
    assert found.numbers["seeds"] == 7
    assert found.verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("change", "match"),
    [({"factor": 10.0}, "in \\(0, 1\\)"), ({"arm": "momentum"}, "an arm is"), ({"seed": None}, "no columns")],
)
def test_bad_frames_are_refused(change, match):
    frame = planted().assign(**change)
    with pytest.raises(ValueError, match=match):
        drop_test(frame.drop(columns=[name for name, value in change.items() if value is None]))


def test_runs_of_one_seed_count_once():
    frame = planted(4)
    again = frame.assign(**{name: frame[name] * 1.01 for name in frame if name.startswith("elr_after")})
    once, twice = (
        {c.what + c.arm: c.difference for c in checks_of(each)} for each in (frame, pd.concat([frame, again]))
    )
    assert {each.n for each in twice.values()} == {4}
    what = "effective LR just after the droplr"
    assert twice[what].value == pytest.approx(once[what].value + np.log(1.01) / 2)
    assert twice[what].error == pytest.approx(once[what].error)
