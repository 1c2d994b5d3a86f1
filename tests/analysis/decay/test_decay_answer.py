"""The whole analysis on folders: answer, words, figures; what is missing is a note and never a crash."""

import json

import numpy as np
import pytest
from planted_decays import Planted, drop, phase, plant

from analysis.decay.answer import decay_answer
from analysis.decay.find import find_decays
from analysis.figures.decay_course import decay_course_table, draw_decay_course
from analysis.figures.decay_grid import decay_grid_table, draw_decay_grid
from analysis.figures.decay_timing import decay_seeds_table, decay_timing_table, draw_decay_timing
from analysis.figures.style import render
from analysis.study import load_study

TOTAL = 2000
NEVER = Planted(key="never", phases=[phase(TOTAL, 0.4, 0.02)], final=0.2)


def _map(lrs=(0.2, 0.4), times=(500, 1000, 1500)):
    trunks = [Planted(key=f"n{lr}", phases=[phase(TOTAL, lr, 0.02)], final=0.2) for lr in lrs]
    tails = [
        Planted(
            key=f"d{time}-{lr}",
            phases=drop(time, TOTAL, lr, 0.02, f=0.1),
            final=0.1 + 1e-4 * abs(time - 1000) + 0.1 * (0.4 - lr),
            trunk=f"n{lr}",
            branch=time,
        )
        for lr in lrs
        for time in times
    ]
    return [*trunks, *tails]


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = plant(tmp_path_factory.mktemp("map"), _map(), seeds=5, final_noise=0.003, row_noise=0.002)
    return find_decays(load_study(folder))


def test_the_answer_holds_the_contract_and_is_json(findings):
    answer = json.loads(json.dumps(decay_answer(findings), allow_nan=False))
    assert answer["metric"] == "final_test_error"
    assert answer["recommended_decay_at"] == 1000
    assert answer["recommended_ci"] == [1000, 1000]
    assert answer["recommended_ci_at_these_settings"] == [1000, 1000]
    assert answer["within_margin"] == [1000]
    assert answer["best_single_decay"]["decay_fraction"] == [0.5]
    assert answer["decays_needed"] == 1
    assert answer["n_seeds"] == 5
    assert len(answer["grid"]) == 8
    assert len(answer["jumps"]) == 6
    assert answer["sentence"].startswith("The best is LR x 0.1 at step 1,000 of 2,000 (50 %) from LR 0.4, WD 2e-2")


def test_equal_input_gives_equal_answers(findings):
    again = find_decays(findings.study)
    assert json.dumps(decay_answer(again)) == json.dumps(decay_answer(findings))


def test_course_tables_hold_means_and_theory(findings):
    table = decay_course_table(findings, findings.headline)
    assert set(table["quantity"]) == {"effective_lr", "angle", "train_loss", "test_error"}
    rate = table[table["quantity"] == "effective_lr"]
    before, after = rate[rate["since_decay"] <= 0], rate[rate["since_decay"] > 0]
    np.testing.assert_allclose(before["mean"], 1, atol=0.01)
    assert before["theory"].isna().all()
    np.testing.assert_allclose(after["mean"], after["theory"], rtol=0.02)
    assert (table["n"] == 5).all()


def test_grid_and_timing_tables_mark_the_best(findings):
    timing = findings.headline.timing
    grid = decay_grid_table(timing)
    assert grid.loc[grid["best"], ["initial_lr", "decay_at"]].to_numpy().tolist() == [[0.4, 1000]]
    lines = decay_timing_table(timing)
    assert lines.loc[lines["recommended"], "decay_at"].tolist() == [1000]
    assert lines.loc[lines["chosen_line"], "decay_at"].tolist() == [500, 1000, 1500, 2000]
    assert len(decay_seeds_table(timing)) == 4 * 5


def test_figures_are_drawn_with_their_numbers(findings):
    timing = findings.headline.timing
    course = render(draw_decay_course(decay_course_table(findings, findings.headline))).svg.decode()
    assert all(word in course for word in ("effective learning rate", "angle per step", "theory", "(n = 5)"))
    grid_table = decay_grid_table(timing)
    grid = render(draw_decay_grid(grid_table)).svg.decode()
    best = 100 * grid_table.loc[grid_table["best"], "error_mean"].iloc[0]
    assert f"{best:.1f}" in grid
    assert "never" in grid
    lines = render(
        draw_decay_timing(decay_timing_table(timing), decay_seeds_table(timing), timing.interval, timing.margin)
    ).svg.decode()
    assert "recommended: step 1,000" in lines


MISSING = {
    "no decay at all": ([NEVER], {}, "No completed run has a decay"),
    "one seed": (_map(lrs=(0.4,)), {"seeds": 1}, "One seed leaves no interval"),
    "one time": ([Planted(key="d", phases=drop(1000, TOTAL, f=0.1))], {}, "Only one decay time was tried (step 1,000)"),
    "no trace": (_map(lrs=(0.4,)), {"trace": False}, "measure the probe 'trace'"),
    "weight decay off": ([NEVER, Planted(key="off", phases=drop(1000, TOTAL, g=0.0))], {}, "no equilibrium"),
    "another course": (
        [*_map(lrs=(0.4,)), Planted(key="cosine", phases=[phase(TOTAL, 0.4, curve={"kind": "cosine"})])],
        {},
        "runs have schedules that change otherwise",
    ),
    "several only": (
        [Planted(key="two", phases=[phase(500, 0.4), phase(500, 0.04), phase(1000, 0.004)])],
        {},
        "No schedule has a single decay",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_said(name, tmp_path):
    schedules, more, note = MISSING[name]
    findings = find_decays(load_study(plant(tmp_path, schedules, **{"seeds": 3, **more})))
    answer = decay_answer(findings)
    json.dumps(answer, allow_nan=False)
    assert note in answer["sentence"]
    assert any(note in each for each in answer["notes"])
    render(draw_decay_course(decay_course_table(findings, findings.headline)))
    if findings.headline.timing is not None:
        timing = findings.headline.timing
        render(draw_decay_grid(decay_grid_table(timing)))
        tables = (decay_timing_table(timing), decay_seeds_table(timing))
        render(draw_decay_timing(*tables, timing.interval, timing.margin))


def test_a_table_without_schedules_is_a_note(tmp_path):
    study = load_study(plant(tmp_path, [NEVER], seeds=2, trace=False))
    del study.tables.members["phases"]
    answer = decay_answer(find_decays(study))
    assert "no column 'phases'" in answer["sentence"]
    assert answer["jumps"] == []
    assert answer["recommended_decay_at"] is None


def test_several_arms_have_an_answer_each(tmp_path):
    schedules = _map(lrs=(0.4,))
    arms = [
        Planted(**{**vars(each), "key": f"{each.key}-{size}", "trunk": each.trunk and f"{each.trunk}-{size}"})
        for size in (32, 64)
        for each in schedules
    ]
    arms = [Planted(**{**vars(each), "columns": {"batch_size": int(each.key[-2:])}}) for each in arms]
    answer = decay_answer(find_decays(load_study(plant(tmp_path, arms, seeds=3, final_noise=0.001, trace=False))))
    assert [each["arm"] for each in answer["arms"]] == [{"batch_size": 32}, {"batch_size": 64}]
    assert {each["recommended_decay_at"] for each in answer["arms"]} == {1000}
    assert "With batch_size 64: " in answer["sentence"]
