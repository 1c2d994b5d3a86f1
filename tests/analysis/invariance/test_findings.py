"""All tests of a study on planted folders: what is planted is found, what is missing is said and never raised."""

import json
from dataclasses import replace

import numpy as np
import pytest
from planted_law import Folder, Law, Planted, changed, control, drops, grid, phase, plant, recipe

from analysis.invariance import exact, find
from analysis.invariance.answer import invariance_answer
from analysis.invariance.exact import exact_test
from analysis.invariance.find import find_invariance
from analysis.study import load_study
from trainables.spec import SpecError

TESTS = ("T0", "T1", "T2", "T3", "T4", "T5")


@pytest.fixture
def short_training(monkeypatch):
    """T0 with few steps."""
    monkeypatch.setattr(exact, "STEPS", 25)


@pytest.fixture
def no_training(monkeypatch):
    """T0 trains a network, which most of these tests are not about."""
    monkeypatch.setattr(find, "exact_test", lambda recipe, course: exact_test(None, course))


def found_in(directory, folder):
    found = find_invariance(load_study(plant(directory, folder)))
    json.dumps(invariance_answer(found), allow_nan=False)
    return found


def verdicts(network):
    return {test.key: str(test.verdict) if test.made else "" for test in network.tests}


@pytest.mark.usefixtures("short_training")
def test_the_law_is_found_and_the_control_rejected(tmp_path):
    found = found_in(tmp_path, control())
    expected = {"T0": "EQUIVALENT", "T1": "EQUIVALENT", "T2": "EQUIVALENT", "T3": "EQUIVALENT", "T4": "", "T5": ""}
    assert verdicts(found.headline) == expected
    assert found.headline.verdict.verdict == "EQUIVALENT"
    assert found.headline.confounders == ()
    assert found.control.network.name == "no-norm"
    assert found.control_p < 1e-6
    answer = invariance_answer(found)
    assert answer["verdict"] == "EQUIVALENT"
    assert answer["n_seeds"] == 6
    assert len(answer["cells"]) == 9
    assert answer["sentence"].startswith("main: EQUIVALENT: ")
    assert "The negative control, no-norm, is rejected" in answer["sentence"]
    assert json.dumps(answer) == json.dumps(invariance_answer(find_invariance(found.study)))


@pytest.mark.usefixtures("no_training")
def test_a_dependence_on_the_ratio_is_a_difference(tmp_path):
    found = found_in(tmp_path, changed(control(), laws={"norm": Law(by_ratio=0.05), "plain": Law(by_ratio=0.5)}))
    assert found.headline.verdict.verdict == "DIFFERENT"
    assert verdicts(found.headline)["T1"] == verdicts(found.headline)["T2"] == "DIFFERENT"
    assert verdicts(found.headline)["T3"] == "EQUIVALENT"


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("folder", "words"),
    [
        (Folder(schedules=grid()), "no negative control"),
        (changed(control(), laws={}), "negative control was not rejected"),
        (changed(control(), seeds=2), "2 of the 3 seeds"),
        (changed(control(), seeds=4), "4 of the 5 seeds"),
        (changed(control(), analysis={"control": {"variant": "main"}}), "no negative control"),
    ],
    ids=["no control", "blind control", "2 seeds", "4 seeds", "own control"],
)
def test_nothing_is_equivalent_without(folder, words, tmp_path):
    verdict = found_in(tmp_path, folder).headline.verdict
    assert verdict.verdict == "INCONCLUSIVE"
    assert words in verdict.reason


@pytest.mark.usefixtures("no_training")
def test_margins_are_the_sweeps(tmp_path):
    folder = changed(control(), laws={"norm": Law(by_ratio=0.002, spread=0.001), "plain": Law(by_ratio=0.5)})
    wide = found_in(tmp_path / "wide", folder).headline.test("T2")
    narrow = changed(folder, analysis={**folder.analysis, "margins": {"loss": 0.005, "angle": None}})
    assert wide.verdict == "EQUIVALENT"
    found = found_in(tmp_path / "narrow", narrow).headline.test("T2")
    assert found.verdict == "DIFFERENT"
    assert found.numbers["worst"]["margin"] == pytest.approx(np.log(1.005))
    assert "0.5 %" in found.reason


MISSING = {
    "one ratio": (Folder(schedules=grid(ratios=(1.0,))), {"T2": "2 ratios"}),
    "one product": (Folder(schedules=grid(levels=(0.01,))), {"T1": ""}),
    "all short": (
        Folder(schedules=[Planted(key="a", phases=[phase(200, 0.02, 1.0)])]),
        {"T1": "400 steps", "T2": "400 steps"},
    ),
    "no weight decay": (
        Folder(schedules=[Planted(key="a", phases=[{**phase(200, 0.02, 1.0), "weight_decay": 0.0}])]),
        {"T0": "weight decay", "T1": "weight decay", "T2": "weight decay"},
    ),
    "no norms": (Folder(schedules=grid(kick=1.3), trace=False), {"T3": "in the kicked phase"}),
    "kicked too early": (
        Folder(schedules=[Planted(key="a", phases=[phase(100, 0.02, 1.0), phase(200, 0.02, 1.0, kick=1.3)])]),
        {"T3": "after 4 / (learning rate x weight decay)"},
    ),
    "nothing finished": (
        Folder(schedules=[replace(each, status="running") for each in grid(kick=1.3)], trace=False, epochs=False),
        {"T1": "weight decay", "T2": "weight decay", "T3": "kick: 1.3"},
    ),
    "nothing finite": (
        Folder(schedules=[replace(each, status="nonfinite") for each in grid()]),
        {"T1": "weight decay", "T2": "weight decay"},
    ),
    "no recipe": (Folder(schedules=grid(), recipes={}), {"T0": "weight decay"}),
    "a recipe of another time": (
        Folder(schedules=grid(), recipes={"norm": {"task": "digits", "optimizer": "lion"}}),
        {"T0": "weight decay"},
    ),
    "no losses": (Folder(schedules=grid(), epochs=False), {}),
    "nothing measured": (Folder(schedules=grid(), epochs=False, trace=False), {"T2": "loss measured"}),
    "short drops": (
        Folder(schedules=[Planted(key="a", phases=[phase(400, 0.02, 1.0), phase(100, 0.002, 0.1)])]),
        {"T5": "before the drop"},
    ),
    "no momentum known": (Folder(schedules=grid(), members={"momentum": None, "data_seed": None}), {}),
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_is_said(case, tmp_path):
    folder, wanted = MISSING[case]
    found = found_in(tmp_path, folder)
    assert [test.key for test in found.headline.tests] == list(TESTS)
    for test in found.headline.tests:
        assert test.reason
        assert test.made or test.to_run
        assert test.made or test.verdict == "INCONCLUSIVE"
    for key, words in wanted.items():
        test = found.headline.test(key)
        assert words in test.to_run
        assert test.verdict == "INCONCLUSIVE"
    assert found.headline.verdict.verdict == "INCONCLUSIVE"


@pytest.mark.usefixtures("no_training")
def test_a_kick_of_a_network_without_scale_invariant_weights_is_no_kick(tmp_path):
    kicked = [*grid(kick=1.3), *grid(variant="no-norm", recipe_id="plain", kick=1.3)]
    found = found_in(tmp_path, changed(control(), schedules=kicked))
    test = found.control.test("T3")
    assert not test.made
    assert "no scale-invariant weights" in test.reason


def test_members_without_schedules_are_a_fault(tmp_path):
    import pyarrow.parquet as pq

    plant(tmp_path, Folder(schedules=grid(levels=(0.08,), ratios=(1.0,)), seeds=1))
    table = pq.read_table(tmp_path / "members.parquet")
    pq.write_table(table.drop(["phases"]), tmp_path / "members.parquet")
    with pytest.raises(SpecError, match="'phases'"):
        find_invariance(load_study(tmp_path))


@pytest.mark.usefixtures("short_training")
def test_a_trained_head_fails_the_exact_pair(tmp_path):
    found = found_in(tmp_path, Folder(schedules=grid(ratios=(1.0,)), recipes={"norm": recipe(model={"trains": "all"})}))
    assert verdicts(found.headline)["T0"] == "DIFFERENT"
    assert [each.name for each in found.headline.confounders] == ["parameters outside the symmetry"]


@pytest.mark.usefixtures("no_training")
def test_functions_and_drops_are_tested(tmp_path):
    levels = grid(levels=(0.04, 0.08), ratios=(1.0, 100.0))
    labelled = found_in(tmp_path / "t4", Folder(schedules=levels, seeds=64, labels=[200], trace=False, epochs=False))
    test = labelled.headline.test("T4")
    assert test.verdict == "EQUIVALENT"
    assert len(test.numbers["pairs"]) == 6
    assert {tuple(pair["runs"]) for pair in test.numbers["pairs"]} == {(64, 64)}
    dropped = found_in(tmp_path / "t5", Folder(schedules=drops(), seeds=10)).headline
    assert dropped.test("T5").verdict == "EQUIVALENT"
    assert len(dropped.test("T5").numbers["checks"]) == 13
