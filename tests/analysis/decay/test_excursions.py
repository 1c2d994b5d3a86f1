"""Runs that reach a low loss and leave it again, against courses whose crossings are known."""

from pathlib import Path

import numpy as np
import pytest
from planted_decays import Planted, drop, phase, plant

from analysis.decay.answer import decay_answer
from analysis.decay.excursions import Excursions, excursions_of, upcrossings
from analysis.decay.find import find_decays
from analysis.decay.report import decay_content
from analysis.study import load_study

LOW, HIGH = 0.001, 0.1
"""Errors; the planted loss is three times as large, the threshold 0.01."""


@pytest.mark.parametrize(
    ("values", "times"),
    [
        ([], 0),
        ([1.0], 0),
        ([1.0, 0.1, 1.0, 0.1, 1.0], 2),
        ([0.1, 0.5, 0.1], 1),  # at the level counts as above
        ([0.5, 0.6, 0.5], 0),
        ([0.1, np.nan, 1.0], 0),
        ([0.1, np.inf, 0.2], 1),
    ],
)
def test_crossings_of_one_half(values: list[float], times: int) -> None:
    assert upcrossings(np.array(values), 0.5) == times


def comes_and_goes(step: np.ndarray) -> np.ndarray:
    """Low for 100 steps of every 200, first from 100 on: 2000 steps hold 10 ways up, the last three quarters 8."""
    return np.where((step // 100) % 2 == 1, LOW, HIGH)


def low(since: np.ndarray) -> np.ndarray:
    return np.full(len(since), LOW)


def excursions(folder: Path, schedules: list[Planted]) -> tuple[list[Excursions], str]:
    study = load_study(plant(folder, schedules, seeds=3))
    found = find_decays(study)
    assert decay_answer(found)["n_seeds"] == 3
    return excursions_of(study, [each.arm for each in found.arms]), decay_content(study).sentence


def test_a_trunk_is_told_once_and_what_stays_beside_it(tmp_path: Path) -> None:
    trunk = Planted(key="trunk", phases=[phase(2000, 0.4, 0.02)], error=comes_and_goes)
    dropped = [
        Planted(key=f"off{at}", phases=drop(at, 2000, g=0.0), error=low, trunk="trunk", branch=at) for at in (500, 1000)
    ]
    found, sentence = excursions(tmp_path, [trunk, *dropped])
    told = {(each.level.start, each.level.stop, each.level.weight_decay): each for each in found}
    assert set(told) == {(0, 2000, 0.02), (500, 2000, 0.0), (1000, 2000, 0.0)}
    whole = told[0, 2000, 0.02]
    assert (whole.runs, whole.reached, whole.first, whole.crossings, whole.late) == (3, 3, 100, 10, 8)
    assert whole.lowest == pytest.approx(3 * LOW)
    assert all(told[start, 2000, 0.0].crossings == 0 for start in (500, 1000))
    assert sentence.count("leaves again 8 times in the last three quarters of 2,000 steps") == 1
    assert sentence.count("does not leave again") == 2


def test_a_course_that_stays_low_is_no_excursion(tmp_path: Path) -> None:
    found, sentence = excursions(
        tmp_path,
        [
            Planted(key="trunk", phases=[phase(2000, 0.4, 0.02)], error=low),
            Planted(key="off", phases=drop(1000, 2000, g=0.0), error=low, trunk="trunk", branch=1000),
        ],
    )
    assert found == []
    assert "leave" not in sentence


def test_the_name_of_an_arm_before_an_acronym(tmp_path: Path) -> None:
    schedules = [
        Planted(key=f"{width}", phases=drop(1000, 2000, f=0.1), columns={"label_smoothing": width})
        for width in (0.0, 0.1)
    ]
    sentence = decay_content(load_study(plant(tmp_path, schedules, seeds=3))).sentence
    assert sentence.count(": LR x 0.1 at step 1,000") == 2
