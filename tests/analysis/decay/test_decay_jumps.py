"""Jumps of norms that follow SGD's identity, and falls and rebounds of planted errors."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_decays import EVERY, Planted, drop, phase, plant

from analysis.decay.answer import arm_answer
from analysis.decay.events import Event
from analysis.decay.find import find_decays
from analysis.decay.rebounds import ReboundVerdict, find_rebounds, windows
from analysis.decay.runs import DecayArm
from analysis.decay.schedules import Decay, Level
from analysis.decay.words import jump_words, rebound_words
from analysis.study import load_study

TOTAL, AT = 4000, 1200


def _dip(since):
    """8.3 points before; 4.4 one report after the decay, back to 8.7."""
    return np.where(since <= 0, 0.083, 0.087 - 0.043 * np.exp(-(since - EVERY) / 300))


@pytest.fixture(scope="module")
def headline(tmp_path_factory):
    schedules = [
        Planted(key="never", phases=[phase(TOTAL, 0.4, 0.02)], error=lambda since: np.full(len(since), 0.083)),
        Planted(key="lr", phases=drop(AT, TOTAL, f=0.1), noise=(1.0, 1.5), error=_dip, trunk="never", branch=AT),
        Planted(
            key="wd",
            phases=drop(AT, TOTAL, g=0.1),
            error=lambda since: np.full(len(since), 0.083),
            trunk="never",
            branch=AT,
        ),
    ]
    folder = plant(tmp_path_factory.mktemp("jumps"), schedules, row_noise=0.002, seed_spread=0.01, momentum=0.0)
    return find_decays(load_study(folder)).headline


def _shown(headline, words):
    return next(event for event in headline.shown if event.decay.words == words)


def test_the_factor_just_after_and_the_square_root_at_the_end(headline):
    jump = headline.jump(_shown(headline, "LR x 0.1"))
    assert jump.predicted_just_after == pytest.approx(0.1)
    assert jump.just_after.value == pytest.approx(0.1, rel=0.03)
    assert jump.just_after.value == pytest.approx(jump.predicted_interval, rel=4e-3)
    assert jump.at_end.value == pytest.approx((0.1 / 1.5) ** 0.5, rel=3e-3)
    assert jump.predicted_at_end.value == pytest.approx((0.1 / 1.5) ** 0.5, rel=3e-3)
    assert jump.agreement.low < 1.001
    assert jump.agreement.high > 0.999
    assert jump.noise.value == pytest.approx(1.5, rel=3e-3)
    assert jump.angle.value == pytest.approx(0.1**0.5, rel=3e-3)
    assert jump.predicted_angle == pytest.approx(0.1**0.5)


def test_a_drop_of_weight_decay_does_nothing_at_once_and_the_same_in_the_end(headline):
    jump = headline.jump(_shown(headline, "WD x 0.1"))
    assert jump.predicted_just_after == 1
    assert jump.just_after.value == pytest.approx(jump.predicted_interval, rel=4e-3)
    assert jump.at_end.value == pytest.approx(0.1**0.5, rel=4e-3)
    assert jump.angle.value == pytest.approx(0.1**0.5, rel=4e-3)


def test_every_layer_is_measured_from_a_shared_beginning(headline):
    event = _shown(headline, "LR x 0.1")
    assert [jump.group for jump in headline.jumps if jump.event is event] == ["scale_invariant", "layer1"]
    assert {jump.just_after.n for jump in headline.jumps} == {6}


def test_a_planted_rebound_is_found_with_its_size(headline):
    event = _shown(headline, "LR x 0.1")
    error, loss = headline.rebound(event, "error"), headline.rebound(event, "loss")
    assert error.verdict is loss.verdict is ReboundVerdict.REBOUND
    for name, value in (("drop", 0.039), ("rebound", 0.043)):
        for each, scale in ((error, 1), (loss, 3)):  # the planted loss is three times the error
            estimate = getattr(each, name)
            assert estimate.low <= scale * value <= estimate.high
            assert estimate.value == pytest.approx(scale * value, rel=0.08)
    assert error.best_steps == (AT + EVERY, AT + EVERY)
    number = rebound_words(error, event)
    assert number.startswith("The test error falls from ")
    assert "and returns to " in number
    assert "a rebound of +4." in number


def test_without_a_rebound_none_is_claimed(headline):
    """The lowest of 98 noisy rows lies 2.5 standard deviations too low."""
    error = headline.rebound(_shown(headline, "WD x 0.1"), "error")
    assert error.verdict is ReboundVerdict.NO_REBOUND
    assert abs(error.rebound.value) < 0.002
    assert "no rebound of 1 point" in rebound_words(error)


def test_words_hold_prediction_and_measurement(headline):
    text = jump_words(headline.jump(_shown(headline, "LR x 0.1")))
    assert text.startswith("LR x 0.1 at step 1,200 from LR 0.4, WD 2e-2: the effective learning rate is 0.10")
    assert "predicted 0.1 at once" in text
    assert "gradient noise being 1.5 times" in text
    assert "the angle per step is 0.31" in text


def test_levels_that_are_too_short_are_named(tmp_path):
    event = Planted(key="late", phases=drop(1200, 1400, f=0.1))
    (arm,) = find_decays(load_study(plant(tmp_path, [event], seeds=2))).arms
    assert any("the end is not the equilibrium" in note for note in arm.notes)
    assert "on its way to" in jump_words(arm.jump(arm.events[0]))
    early = Planted(key="early", phases=drop(200, 1400, f=0.1))
    (arm,) = find_decays(load_study(plant(tmp_path / "early", [early], seeds=2))).arms
    assert any("not yet an equilibrium" in note for note in arm.notes)


def test_momentum_and_kicks_enter_the_predictions(tmp_path):
    phases = [phase(1200, 0.04, 0.02), phase(2000, 0.02, 0.02, kick=1.3)]
    study = load_study(plant(tmp_path, [Planted(key="kicked", phases=phases)], seeds=2, momentum=0.9))
    (arm,) = find_decays(study).arms
    jump = arm.jump(arm.events[0])
    assert jump.predicted_just_after == pytest.approx(0.5 / 1.69)
    assert jump.just_after.value == pytest.approx(jump.predicted_interval, rel=6e-3)
    assert jump.at_end.value == pytest.approx(0.5**0.5, rel=6e-3)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_windows_cover_every_row_once_and_widen(rows):
    cuts = windows(rows)
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(rows))
    assert len(cuts) <= 14
    if rows == 100:
        assert cuts[:6] == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 9))


def test_a_rebound_that_is_not_there_is_claimed_rarely():
    """A flat course with noise: at most 2.5 % of intervals may lie above 0, however many seeds there are."""
    rng = np.random.default_rng(3)
    decay = Decay(
        before=Level(start=0, stop=100, lr=1.0, weight_decay=0.1),
        after=Level(start=100, stop=200, lr=0.1, weight_decay=0.1),
    )
    seeds, runs = 6, 80
    arm = DecayArm(
        axes={}, number=0, seeds=np.arange(seeds), data_seeds=np.zeros(seeds, int), clusters=np.arange(seeds), runs=()
    )
    names = tuple(f"m{seed}" for seed in range(seeds))
    event = Event(arm=arm, decay=decay, number=0, momentum=0.0, members=names, units=tuple(range(seeds)))
    steps = np.arange(2, 201, 2)
    above, covered, values = 0, 0, []
    for run in range(runs):
        courses = pd.DataFrame(
            {
                "member_id": pd.Categorical(np.repeat(names, len(steps))),
                "step": np.tile(steps, seeds),
                "test_error": 0.1 + 0.01 * rng.normal(size=seeds * len(steps)),
            }
        )
        generator = np.random.default_rng(run)
        (found,) = find_rebounds(courses, [event], margin=0.01, confidence=0.95, generator=generator)
        above += found.rebound.low > 0
        covered += found.rebound.low <= 0 <= found.rebound.high
        values.append(found.rebound.value)
    assert above <= 0.025 * runs + 3 * np.sqrt(0.025 * 0.975 * runs)
    assert covered >= 0.95 * runs - 3 * np.sqrt(0.05 * 0.95 * runs)
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(runs)


def test_the_answer_about_jumps_is_json(headline):
    jumps = json.loads(json.dumps(arm_answer(headline)["jumps"], allow_nan=False))
    assert {(round(jump["lr_factor"], 9), round(jump["wd_factor"], 9)) for jump in jumps} == {(0.1, 1.0), (1.0, 0.1)}
    assert all(jump["reached"] and jump["settled_before"] for jump in jumps)
    assert jumps[0]["courses"]["test_error"]["rebound"]["n"] == 6
