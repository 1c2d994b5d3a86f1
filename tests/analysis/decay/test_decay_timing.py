"""Decay times, choices and numbers of decays with a known truth."""

import numpy as np
import pytest
from planted_decays import Planted, drop, phase, plant

from analysis.decay.choice import choose
from analysis.decay.find import find_decays
from analysis.decay.necessity import Need, decays_needed, find_comparisons
from analysis.decay.outcomes import Config, Outcomes, drop_words
from analysis.decay.runs import DecayArm
from analysis.decay.timing import find_timings
from analysis.decay.words import comparison_words, timing_words
from analysis.study import load_study

TOTAL = 1000
TIMES = (200, 400, 600, 800)
SETTINGS = {"margin": 0.01, "confidence": 0.95}


def _config(times, lr=0.1, wd=1e-3, steps=TOTAL, factor=0.1):
    count = len(times)
    return Config(
        initial_lr=lr,
        weight_decay=wd,
        steps=steps,
        decay_steps=tuple(times),
        lr_factors=(factor,) * count,
        wd_factors=(1.0,) * count,
        kicks=(1.0,) * (count + 1),
        warmup=0,
    )


def _outcomes(truth, seeds=8, noise=0.004, generator=0, shared=0.01):
    """`truth`: mean error of each configuration; seeds shift all of them alike."""
    rng = np.random.default_rng(generator)
    configs = tuple(sorted(truth))
    error = np.array([truth[config] for config in configs]) + shared * rng.normal(size=(seeds, 1))
    error = error + noise * rng.normal(size=error.shape)
    arm = DecayArm(
        axes={}, number=0, seeds=np.arange(seeds), data_seeds=np.zeros(seeds, int), clusters=np.arange(seeds), runs=()
    )
    return Outcomes(arm=arm, configs=configs, error=error, choosing=error, chosen_on="test")


def _timing(truth, **more):
    return find_timings(_outcomes(truth, **more), **SETTINGS, generator=np.random.default_rng(1))[0]


def test_the_recommended_time_and_settings_are_the_planted_ones():
    truth = {
        _config([time], lr, wd): 0.1 + 1e-4 * abs(time - 600) + 0.02 * (lr != 0.1) + 0.03 * (wd != 1e-3)
        for time in TIMES
        for lr in (0.1, 0.3)
        for wd in (1e-3, 1e-2)
    } | {_config([]): 0.2}
    timing = _timing(truth)
    assert (timing.decay_at, timing.interval, timing.significant) == (600, (600.0, 600.0), True)
    assert (timing.config.initial_lr, timing.config.weight_decay) == (0.1, 1e-3)
    assert timing.best_line.times == (*TIMES, TOTAL)
    assert timing.best_line.never == (False,) * 4 + (True,)
    assert timing.best_line.within_margin == (600,)
    assert timing.choice.error.low <= 0.1 + 0.004 <= timing.choice.error.high + 0.01
    assert len(timing.grid_json()) == 4 * 4 + 1
    text = timing_words(timing)
    assert "LR x 0.1 at step 600 of 1,000 (60 %) from LR 0.1, WD 1e-3" in text
    assert "every other decay time is worse" in text
    assert "within 1 point of the best at these settings: 600" in text


def test_equal_times_are_not_told_apart_and_never_may_be_best():
    timing = _timing({_config([time]): 0.1 for time in TIMES} | {_config([]): 0.1}, noise=0.01)
    assert timing.interval == (200.0, 1000.0)
    assert not timing.significant
    words = "is not significant: decay times from 200 to 1,000 steps (and none) may be the best (all that were tried)"
    assert words in timing_words(timing)
    never = _timing({_config([time]): 0.2 for time in TIMES} | {_config([]): 0.1})
    assert (never.decay_at, never.interval) == (None, (1000.0, 1000.0))
    assert never.single_config.decays == 1
    assert timing_words(never).startswith("The best is no decay (LR 0.1, WD 1e-3)")


@pytest.mark.parametrize("depth", [0.0, 0.003])
def test_the_interval_of_the_recommended_time_covers_it(depth):
    """All times alike (any of them is the best: the last, say), or one a little better than the rest."""
    truth = {_config([time], lr): 0.1 - depth * (time == 600) for time in TIMES for lr in (0.1, 0.3)}
    runs, covered, right = 80, 0, 0
    for run in range(runs):
        timing = _timing(truth, seeds=5, generator=run, noise=0.005)
        best = 600 if depth else 800
        covered += timing.interval[0] <= best <= timing.interval[1]
        right += timing.decay_at == best
    assert covered >= 0.95 * runs - 3 * np.sqrt(0.05 * 0.95 * runs)
    assert right < 0.95 * runs  # the point alone would not do


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_the_error_of_the_best_is_unbiased_and_covered(spread):
    rng = np.random.default_rng(5)
    truth = np.linspace(0.1, 0.1 + spread, 8)
    seeds, runs = 6, 150
    own, covered, naive = [], 0, []
    for run in range(runs):
        error = truth + 0.01 * rng.normal(size=(seeds, 8))
        found = choose(error, error, np.arange(seeds), 0.95, np.random.default_rng(run))
        own.append(found.error.value)
        naive.append(error.mean(axis=0).min())
        covered += found.error.low <= truth.min() <= found.error.high
    assert covered >= 0.95 * runs - 3 * np.sqrt(0.05 * 0.95 * runs)
    if not spread:
        assert abs(np.mean(own) - 0.1) < 3.5 * np.std(own) / np.sqrt(runs)
        assert np.mean(naive) < 0.1 - 10 * np.std(naive) / np.sqrt(runs)


def test_lengths_are_kept_apart_and_tails_compared_where_lengths_all_differ():
    truth = {_config([time]): 0.1 for time in TIMES} | {_config([time], steps=2000): 0.1 for time in (500, 1500)}
    timings = find_timings(_outcomes(truth), **SETTINGS, generator=np.random.default_rng(0))
    assert [(timing.steps, timing.equal_total, timing.best_line.times) for timing in timings] == [
        (1000, True, TIMES),
        (2000, True, (500, 1500)),
    ]
    fixed = {_config([time], steps=time + 300): 0.1 for time in TIMES}
    (timing,) = find_timings(_outcomes(fixed), **SETTINGS, generator=np.random.default_rng(0))
    assert (timing.steps, timing.equal_total, timing.best_line.times) == (300, False, TIMES)
    alone = {_config([200]): 0.1, _config([400], steps=500): 0.1}
    assert find_timings(_outcomes(alone), **SETTINGS, generator=np.random.default_rng(0)) == ()


def test_a_fixed_final_rate_is_one_kind_of_drop():
    by_final = [_config([200], lr, factor=0.01 / lr) for lr in (0.1, 0.2, 0.5)]
    assert drop_words(by_final) == ["LR to 0.01"] * 3
    by_factor = [_config([200], lr) for lr in (0.1, 0.2, 0.5)]
    assert drop_words(by_factor) == ["LR x 0.1"] * 3
    assert drop_words([_config([200, 300]), _config([])]) == ["LR x 0.1 each", "no decay"]


NECESSITY = {
    "needed": (0.05, Need.NEEDED, 2, "is better, and needed: a gain of +5.0 points"),
    "not needed": (0.1, Need.NOT_NEEDED, 1, "is not needed: no gain of 1 point"),
}


@pytest.mark.parametrize("name", NECESSITY)
def test_several_decays_against_one_and_one_against_none(name):
    several, verdict, needed, words = NECESSITY[name]
    truth = {
        _config([]): 0.2,
        **{_config([time], lr): 0.1 + 0.02 * (time != 600) + 0.01 * (lr != 0.1) for time in TIMES for lr in (0.1, 0.3)},
        **{_config([400, 800], lr): several + 0.01 * (lr != 0.1) for lr in (0.1, 0.3)},
        _config([600], steps=4000): 0.05,
    }
    outcomes = _outcomes(truth, noise=0.001, seeds=10)
    found = find_comparisons(outcomes, **SETTINGS, generator=np.random.default_rng(0))
    equal, longer, single = found
    assert (equal.equal_length, equal.verdict, equal.decays) == (True, verdict, 2)
    assert equal.gain.low <= 0.1 - several <= equal.gain.high
    assert (longer.equal_length, longer.than_steps, longer.verdict) == (False, 4000, Need.NOT_NEEDED)
    assert longer.gain.value == pytest.approx(0.05 - several, abs=0.002)
    assert (single.than, single.verdict) == (0, Need.NEEDED)
    assert words.replace("+5.0", f"{100 * equal.gain.value:+.1f}") in comparison_words(equal)
    assert "against a single decay of 4,000 steps" in comparison_words(longer)
    assert decays_needed(found) == needed


@pytest.mark.parametrize(("seeds", "verdict"), [(1, Need.UNKNOWN), (3, Need.NOT_SIGNIFICANT)])
def test_too_few_seeds_decide_nothing(seeds, verdict):
    truth = {_config([600]): 0.1, _config([400, 800]): 0.09}
    outcomes = _outcomes(truth, seeds=seeds, noise=0.02)
    (found,) = find_comparisons(outcomes, **SETTINGS, generator=np.random.default_rng(0))
    assert found.verdict is verdict
    assert ("nothing can be said" if seeds == 1 else "not significant") in comparison_words(found)


def test_a_schedule_is_chosen_on_the_validation_split_and_read_on_test(tmp_path):
    schedules = [
        Planted(key=f"d{time}", phases=drop(time, TOTAL, f=0.1), final=0.1 + 1e-4 * abs(time - 600)) for time in TIMES
    ]
    study = load_study(plant(tmp_path, schedules, seeds=5, final_noise=0.001, valid=True, trace=False))
    (arm,) = find_decays(study).arms
    assert arm.outcomes.chosen_on == "valid"
    assert arm.timing.decay_at == 600
    finals = study.tables.probes
    finals = finals[(finals["split"] == "test") & (finals["step"] == TOTAL)]
    of_best = finals[finals["member_id"].astype(str).str.startswith("d600-")]["value"]
    assert arm.timing.choice.error.value == pytest.approx(of_best.mean())


def test_a_run_that_overflowed_counts_as_a_guess(tmp_path):
    schedules = [
        Planted(key="good", phases=drop(400, TOTAL, f=0.1)),
        Planted(key="bad", phases=drop(600, TOTAL, f=0.1), status="nonfinite", final=np.nan),
        Planted(key="never", phases=[phase(TOTAL, 0.4, 0.02)], final=0.2),
    ]
    (arm,) = find_decays(load_study(plant(tmp_path, schedules, seeds=3, trace=False))).arms
    line = arm.timing.best_line
    means = {time: error.value for time, error in zip(line.times, line.errors, strict=True)}
    assert means == pytest.approx({400: 0.1, 600: 0.9, 1000: 0.2})
