"""The report of a decay study: drops of both kinds beside each other, and runs that leave a low loss again."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_decays import EVERY, Planted, drop, phase, plant

from analysis.decay.excursions import excursions_of, upcrossings
from analysis.decay.find import find_decays
from analysis.decay.report import decay_content
from analysis.decay.waits import waits_table
from analysis.study import load_study

THRESHOLD = 0.01
LOW, HIGH = 0.001, 0.5


@given(
    st.lists(st.one_of(st.floats(0, 2), st.just(float("nan")), st.just(1.0)), max_size=30), st.sampled_from([0.5, 1.0])
)
def test_upcrossings_are_those_of_a_plain_loop(values, threshold):
    count = 0
    for before, after in itertools.pairwise(values):
        if before < threshold <= after:
            count += 1
    assert upcrossings(np.array(values, dtype=np.float64), threshold) == count


def with_losses(directory, losses):
    """Replace the training losses of members by their key."""
    path = next((directory / "epochs").iterdir())
    epochs = pq.read_table(path).to_pandas().sort_values(["member_id", "step"])
    for key, values in losses.items():
        for member_id in {name for name in epochs["member_id"] if name.rsplit("-", 1)[0] == key}:
            epochs.loc[epochs["member_id"] == member_id, "train_loss"] = values
    epochs.to_parquet(path, index=False)
    return directory


def spikes(rows, at):
    """A loss that is low from the fifth row on, but for rows at which it is high."""
    values = np.full(rows, LOW)
    values[:5] = HIGH
    values[list(at)] = HIGH
    return values


@pytest.fixture(scope="module")
def leaving(tmp_path_factory):
    on, off = phase(2000, 0.4, 0.02), phase(400, 0.4, 0.0)
    schedules = [
        Planted(key="on", phases=[on]),
        Planted(key="off", phases=[on, off], trunk="on", branch=2000),
        Planted(key="never", phases=[phase(2000, 0.4, 0.0)]),
    ]
    folder = plant(tmp_path_factory.mktemp("leaving"), schedules, seeds=3)
    return with_losses(
        folder,
        {
            "on": spikes(2000 // EVERY, [10, 40, 60, 61, 80, 99]),
            "off": np.full(400 // EVERY, LOW),
            "never": spikes(2000 // EVERY, []),
        },
    )


def test_planted_crossings_are_counted(leaving):
    study = load_study(leaving)
    found = {(each.level.start, each.level.weight_decay): each for each in excursions_of(study, _arms(study))}
    assert set(found) == {(0, 0.02), (2000, 0.0), (0, 0.0)}
    on, off, never = found[0, 0.02], found[2000, 0.0], found[0, 0.0]
    assert (on.runs, on.reached, on.first, on.lowest, on.end) == (3, 3, 6 * EVERY, LOW, HIGH)
    assert (on.crossings, on.late) == (5, 4)
    assert (off.crossings, off.late, off.end) == (0, 0, LOW)
    assert (never.crossings, never.reached, never.end) == (0, 3, LOW)


def test_rows_without_a_loss_hide_nothing(leaving, tmp_path):
    schedule = Planted(key="on", phases=[phase(2000, 0.4, 0.02)])
    losses = spikes(100, [50, 70])
    losses[[30, 99]] = np.nan
    study = load_study(with_losses(plant(tmp_path, [schedule], seeds=2), {"on": losses}))
    (found,) = excursions_of(study, _arms(study))
    assert (found.crossings, found.lowest) == (2, LOW)
    assert np.isnan(found.end)
    json.dumps(decay_content(study).data, allow_nan=False)


def test_the_report_says_who_leaves(leaving):
    content = decay_content(load_study(leaving))
    assert "leaves again 4 times in the last three quarters of 2,000 steps" in content.sentence
    assert content.sentence.count("it does not leave again (loss at the end 0.001)") == 2
    assert "Leaving a solution again" in content.html
    data = json.loads(json.dumps(dict(content.data), allow_nan=False))
    assert [each["crossings"] for each in data["excursions"]].count(5) == 1
    table = pd.read_csv(pd.io.common.BytesIO(content.files["excursions.csv"]))
    assert sorted(table["crossings"]) == [0, 0, 5]


def test_runs_that_stay_low_are_not_mentioned(tmp_path):
    schedule = Planted(key="on", phases=[phase(2000, 0.4, 0.02)])
    study = load_study(with_losses(plant(tmp_path, [schedule], seeds=2), {"on": spikes(100, [])}))
    assert excursions_of(study, _arms(study)) == []
    assert decay_content(study).data["excursions"] == []


def _drops(**columns):
    return [
        Planted(key=f"lr{columns}", phases=drop(1000, 6000, 0.4, 0.02, f=0.1), columns=columns),
        Planted(key=f"wd{columns}", phases=drop(1000, 6000, 0.4, 0.02, g=0.1), columns=columns),
    ]


def test_drops_of_both_kinds_are_tested(tmp_path):
    content = decay_content(load_study(plant(tmp_path, _drops(), seeds=6)))
    test = content.data["tests"]["T5"]
    checks = {(each["what"], each["arm"]): each for each in test["numbers"]["checks"]}
    assert checks["angle at the end", "lr"]["found"] == pytest.approx(np.sqrt(0.1), rel=0.02)
    assert checks["effective LR at the end", "weight_decay"]["found"] == pytest.approx(np.sqrt(0.1), rel=0.02)
    assert "Drop of the learning rate against drop of the weight decay" in content.html
    assert {"LR x 0.1", "WD x 0.1", "both"} == set(re.findall(r">\s*([LW][RD] x 0\.1|both)\s*<", content.html))
    assert content.sentence.startswith("T5 ")


@pytest.mark.parametrize(
    ("schedules", "rows"),
    [
        # 4 / (0.4 x 0.02) = 500 steps
        ([(1000, 0.4, 0.02), (1000, 0.2, 0.02)], ["step 1,000; 3 of 3 runs wait", "step 1,000; 3 of 3 runs wait"]),
        ([(499, 0.4, 0.02), (1000, 0.4, 0.02)], ["steps 499 to 1,000; 3 of 6 runs wait"]),
        ([(1000, 0.4, 0.0)], []),
    ],
    ids=["two rates", "one too early", "no weight decay"],
)
def test_time_to_equilibrium_is_told_by_initial_rate(schedules, rows, tmp_path):
    planted = [
        Planted(key=str(index), phases=drop(*each[:1], 2000, *each[1:], f=0.1)) for index, each in enumerate(schedules)
    ]
    study = load_study(plant(tmp_path, planted, seeds=3))
    (arm,) = _arms(study)
    table = waits_table(arm, study.tables.members.assign(train_size=1000, batch_size=20))
    assert table.get("first change", pd.Series(dtype=str)).tolist() == rows
    if rows:
        assert (table["steps"].iloc[-1], table["passes"].iloc[-1]) == ("500", "10")


def test_networks_have_sections_of_their_own(tmp_path):
    both = [*_drops(recipe_id="one", variant="a"), *_drops(recipe_id="two", variant="b")]
    content = decay_content(load_study(plant(tmp_path, both, seeds=3)))
    assert set(content.data["tests"]) == {"T5-a", "T5-b"}
    assert "a: T5 " in content.sentence
    assert "weight decay, b: " in content.html


def test_one_kind_of_drop_is_no_test(tmp_path):
    content = decay_content(load_study(plant(tmp_path, _drops()[:1], seeds=3)))
    assert content.data["tests"] == {}


def _arms(study):
    return [each.arm for each in find_decays(study).arms]
