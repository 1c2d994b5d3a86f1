"""Decays are found whatever a schedule is called and however it is cut; the same decay is one event."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_decays import Planted, drop, phase, plant

from analysis.decay.events import events_of
from analysis.decay.runs import runs_of
from analysis.decay.schedules import parse_schedule, schedule_table
from analysis.study import load_study

CASES = {
    "one drop": (drop(30, 100, f=0.1), [(30, 0.1, 1.0)], True),
    "a drop of weight decay": (drop(30, 100, g=0.1), [(30, 1.0, 0.1)], True),
    "weight decay off": (drop(30, 100, g=0.0), [(30, 1.0, 0.0)], True),
    "both": (drop(30, 100, f=0.5, g=0.2), [(30, 0.5, 0.2)], True),
    "never": ([phase(100, 0.1)], [], True),
    "cut without a change": ([phase(20, 0.1), phase(10, 0.1), phase(70, 0.01)], [(30, 0.1, 1.0)], True),
    "a rise is no decay": ([phase(20, 0.01), phase(80, 0.1)], [], False),
    "one up, one down is no decay": ([phase(20, 0.1, 0.01), phase(80, 0.01, 0.1)], [], False),
    "two, after a rise": (
        [phase(10, 0.1), phase(10, 1.0), phase(10, 0.1), phase(10, 0.01)],
        [(20, 0.1, 1), (30, 0.1, 1)],
        False,
    ),
    "milestones of a curve": (
        [phase(100, 0.1, curve={"kind": "steps", "milestones": [40, 80], "times": 0.2})],
        [(40, 0.2, 1.0), (80, 0.2, 1.0)],
        True,
    ),
    "after a warm-up": ([phase(50, 0.1, curve={"warmup": 10}), phase(50, 0.02)], [(50, 0.2, 1.0)], True),
    "into a cosine": ([phase(50, 0.1), phase(50, 0.02, curve={"kind": "cosine"})], [], False),
    "a kick alone": ([phase(50, 0.1), phase(50, 0.1, kick=1.3)], [], False),
}


@pytest.mark.parametrize("name", CASES)
def test_decays_of_a_schedule(name):
    phases, decays, only = CASES[name]
    schedule = parse_schedule(json.dumps(phases))
    found = [(decay.step, decay.lr_factor, decay.wd_factor) for decay in schedule.decays]
    assert len(found) == len(decays)
    np.testing.assert_allclose(np.array(found).reshape(-1, 3), np.array(decays, dtype=float).reshape(-1, 3))
    assert schedule.only_decays is only
    assert schedule.steps == sum(part["steps"] for part in phases)


@given(
    steps=st.lists(st.integers(2, 50), min_size=1, max_size=5),
    factors=st.lists(st.floats(0.05, 0.9), min_size=4, max_size=4),
    cut=st.integers(0, 4),
)
def test_cutting_a_phase_in_two_changes_nothing(steps, factors, cut):
    lrs = np.cumprod([0.3, *factors])
    phases = [phase(length, float(lr)) for length, lr in zip(steps, lrs, strict=False)]
    cut = cut % len(phases)
    first, rest = dict(phases[cut], steps=1), dict(phases[cut], steps=steps[cut] - 1)
    assert parse_schedule([*phases[:cut], first, rest, *phases[cut + 1 :]]) == parse_schedule(phases)


def test_the_table_has_one_row_for_each_member():
    members = pd.DataFrame(
        {
            "member_id": ["a", "b"],
            "momentum": [0.0, 0.9],
            "phases": [json.dumps(drop(30, 100, 0.4, 0.02, f=0.1)), json.dumps([phase(50, 0.2, 0.01, kick=3.0)])],
        }
    )
    table = schedule_table(members).set_index("member_id")
    assert table.loc["a", "decay_steps"] == (30,)
    assert table.loc["a", "final_lr"] == pytest.approx(0.04)
    assert (table.loc["b", "n_decays"], table.loc["b", "kicks"], table.loc["b", "momentum"]) == (0, (3.0,), 0.9)


def _arm(directory: Path, schedules, **more):
    return runs_of(load_study(plant(directory, schedules, trace=False, **more)))


def test_a_shared_beginning_has_one_event_shown_by_the_longest_run(tmp_path):
    """The first drop of two is the only drop of the other; each seed counts once."""
    once = Planted(key="once", phases=drop(100, 400, f=0.1), trunk="never", branch=100)
    twice = Planted(
        key="twice",
        phases=[phase(100, 0.4, 0.02), phase(100, 0.04, 0.02), phase(200, 0.004, 0.02)],
        trunk="once",
        branch=200,
    )
    (arm,) = _arm(tmp_path, [Planted(key="never", phases=[phase(400, 0.4, 0.02)]), once, twice], seeds=3)
    first, second = sorted(events_of(arm), key=lambda event: event.number)
    assert first.members == ("once-0", "once-1", "once-2")
    assert (first.decay.step, first.decay.after.stop) == (100, 400)
    assert second.members == ("twice-0", "twice-1", "twice-2")
    assert (second.decay.step, second.number) == (200, 1)


def test_an_event_ends_where_most_seeds_end(tmp_path):
    schedules = [
        Planted(key="short", phases=drop(100, 200, f=0.1)),
        Planted(key="long", phases=drop(100, 400, f=0.1), only_seeds=(1,)),
        Planted(key="dead", phases=drop(100, 800, f=0.1), status="nonfinite"),
    ]
    (arm,) = _arm(tmp_path, schedules, seeds=4)
    (event,) = events_of(arm)
    assert event.members == ("short-0", "long-1", "short-2", "short-3")
    assert event.decay.after.stop == 200


def test_arms_are_networks_and_variants_of_a_schedule_share_one(tmp_path):
    wide = {"variant": "wide", "batch_size": 64}
    schedules = [
        Planted(key="a", phases=drop(100, 200, f=0.1), columns={"variant": "early", "batch_size": 32}),
        Planted(key="b", phases=drop(160, 200, f=0.1), columns={"variant": "late", "batch_size": 32}),
        Planted(key="c", phases=drop(100, 200, f=0.1), columns=wide),
    ]
    arms = _arm(tmp_path, schedules, seeds=2)
    assert [dict(arm.axes) for arm in arms] == [{"batch_size": 32}, {"batch_size": 64}]
    assert [len(arm.runs) for arm in arms] == [4, 2]
    named = _arm(tmp_path / "named", [schedules[0], schedules[2]], seeds=2)
    assert [arm.label for arm in named] == ["variant early", "variant wide"]
