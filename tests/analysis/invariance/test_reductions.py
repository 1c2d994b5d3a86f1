"""What the tests take of a results folder: networks, runs, kicks, predictions and drops, against what is planted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_law import INPUTS, NOISE, START, Folder, Planted, control, course, drops, grid, phase, plant, recipe

from analysis.invariance.cells import cells_of, seeds_by_cell, seeds_words
from analysis.invariance.courses import matching, networks_of
from analysis.invariance.drops import drops_of
from analysis.invariance.kicks import kick_times, kicks_of
from analysis.invariance.margins import Margins
from analysis.invariance.predictions import snapshots_of
from analysis.invariance.runs import compared_metrics, equilibrium_runs
from analysis.study import load_study

LEVEL = 0.02


def networks(directory, folder):
    return networks_of(load_study(plant(directory, folder)))


def network(directory, *schedules, **more):
    (found,) = networks(directory, Folder(schedules=schedules, **more))
    return found


@pytest.mark.parametrize("tail", [0.3, 0.6])
def test_runs_are_means_over_the_tail_of_whole_histories(tail, tmp_path):
    first = phase(400, LEVEL, 10.0)
    trunk = Planted(key="trunk", phases=[first])
    whole = Planted(key="whole", phases=[{**first, "steps": 800}], trunk="trunk", branch=400)
    found = network(tmp_path, trunk, whole, seeds=3)
    runs = equilibrium_runs(found, tail)
    assert len(runs.table) == 6
    epochs = found.study.tables.epochs
    for _, run in runs.table.iterrows():
        steps, after = int(run["steps"]), int(run["steps"] * (1 - tail))
        ids = [run["member_id"], f"trunk-{run['member_id'][-1]}"]
        own = epochs[epochs["member_id"].isin(ids) & (epochs["step"] > after) & (epochs["step"] <= steps)]
        assert run["loss"] == pytest.approx(own["train_loss"].mean())
        assert run["error"] == pytest.approx(own["test_error"].mean())
        for layer, noise in NOISE.items():
            truth = course([{**first, "steps": steps}], noise)
            assert run[f"log_elr:{layer}"] == pytest.approx(np.log(truth["effective_lr"][after:].mean()), abs=0.015)
            assert run[f"angle:{layer}"] == pytest.approx(np.sqrt((truth["angle"][after:] ** 2).mean()), rel=0.015)
            assert run[f"norm_sq:{layer}"] == pytest.approx(truth["norm_sq"][after:].mean(), rel=0.015)
            assert run[f"noise:{layer}"] == noise
    layered = {f"{name}:{layer}" for name in ("log_elr", "angle") for layer in NOISE}
    assert set(compared_metrics(runs.table)) == {"loss", "error", *layered}
    assert set(compared_metrics(runs.table.assign(error=np.nan))) == {"loss", *layered}


def test_short_lost_and_scaled_runs_stand_apart(tmp_path):
    found = network(
        tmp_path,
        Planted(key="long", phases=[phase(400, LEVEL, 10.0)]),
        Planted(key="scaled", phases=[phase(400, LEVEL, 10.0, kick=2.0)]),
        Planted(key="short", phases=[phase(390, LEVEL, 10.0)]),
        Planted(key="dead", phases=[phase(400, LEVEL, 1.0)], status="nonfinite"),
        Planted(key="curved", phases=[phase(400, LEVEL, 1.0, curve={"kind": "cosine"})]),
        Planted(key="twice", phases=[phase(200, LEVEL, 1.0), phase(200, LEVEL, 10.0)]),
        seeds=2,
    )
    runs = equilibrium_runs(found, 0.3)
    assert sorted(runs.table["member_id"]) == ["long-0", "long-1", "scaled-0", "scaled-1"]
    assert list(runs.short["member_id"]) == ["short-0", "short-1"]
    assert runs.lost == 2
    ratios = runs.tested.set_index("member_id")["ratio"]
    assert ratios["long-0"] == pytest.approx(10)
    assert ratios["scaled-0"] == pytest.approx(10 / 16)
    assert seeds_by_cell(runs.table) == [2, 2]
    assert [cell.start_scale for cell in cells_of(runs.table, ["loss"], 0.95)] == [1.0, 2.0]


def test_levels_and_ratios_that_differ_in_the_last_digit_are_one(tmp_path):
    found = network(tmp_path, *grid(levels=(0.01, 0.03, 0.07), ratios=(1 / 3, 0.7, 11.0)), seeds=1)
    table = equilibrium_runs(found, 0.3).table
    assert table["intrinsic_lr"].nunique() == table["ratio"].nunique() == 3
    lr, weight_decay = table["lr"], table["weight_decay"]
    assert (lr * weight_decay).nunique() > 3 or (lr / weight_decay).nunique() > 3


def test_cells_are_means_over_seeds():
    table = pd.DataFrame(
        {"intrinsic_lr": 0.1, "ratio": [1.0, 1.0, 1.0, 2.0], "start_scale": 1.0, "lr": 0.3, "weight_decay": 0.4}
    ).assign(seed=[0, 1, 2, 0], loss=[1.0, 2.0, 6.0, 5.0])
    first, second = cells_of(table, ["loss"], 0.95)
    assert (first.seeds, first.means["loss"].value, second.means["loss"].value) == (3, 3.0, 5.0)
    assert first.means["loss"].high - 3 == pytest.approx(4.3026527 * np.std([1, 2, 6], ddof=1) / np.sqrt(3))
    assert seeds_words(table) == "1 to 3 seeds"
    assert seeds_words(table[table["ratio"] == 1]) == "3 seeds"
    assert seeds_words(table[table["ratio"] == 2]) == "1 seed"
    assert seeds_words(table.iloc[:0]) == "no seeds"


def test_kicks_take_as_long_as_the_identity_says(tmp_path):
    found = network(tmp_path, *grid(levels=(0.01, 0.02), ratios=(1.0, 100.0), kick=1.3), seeds=8)
    times = kick_times(found)
    assert len(times) == 2 * 2 * 8 * len(NOISE)
    assert set(times["kick"]) == {1.3}
    for (layer, level), group in times.groupby(["layer", "intrinsic_lr"]):
        first = phase(round(8 / 0.01), level, 1.0)
        norms = course([first, {**first, "steps": 200, "kick": 1.3}], NOISE[layer])["norm_sq"] ** 2
        away = norms[int(first["steps"]) :] / norms[int(first["steps"]) - 1] - 1
        assert group["steps"].mean() == pytest.approx(np.argmax(away < 0.1) + 1, rel=0.05)


def test_only_kicks_out_of_equilibrium_count(tmp_path):
    settled, early = phase(200, LEVEL, 1.0), phase(190, LEVEL, 1.0)
    kick = {"steps": 100, "kick": 1.3}
    found = network(
        tmp_path,
        Planted(key="good", phases=[settled, {**settled, **kick}]),
        Planted(key="early", phases=[early, {**early, **kick}]),
        Planted(key="other-rate", phases=[settled, phase(100, LEVEL / 2, 1.0, kick=1.3)]),
        Planted(key="start", phases=[{**settled, "kick": 3.0}]),
        Planted(key="dead", phases=[settled, {**settled, **kick}], status="nonfinite"),
        seeds=1,
    )
    assert [kick.course.member_id for kick in kicks_of(found)] == ["good-0"]


def test_a_shared_beginning_is_one_run_of_one_schedule(tmp_path):
    first = phase(100, 0.04, 1.0)
    tails = [
        Planted(key=key, phases=[first, phase(100, 0.04, ratio)], trunk="trunk", branch=100)
        for key, ratio in (("a", 2.0), ("b", 2.0004))
    ]
    found = network(tmp_path, Planted(key="trunk", phases=[first]), *tails, seeds=5, labels=[50, 100, 200])
    snapshots = {(each.schedule, each.step): each for each in snapshots_of(found)}
    assert {step for _, step in snapshots} == {50, 100}
    assert len(snapshots) == 4
    assert len({name for name, _ in snapshots}) == 3  # ratios that agree to three digits are two schedules
    labels = found.study.tables.probes.query("probe == 'label'")
    labels = labels.assign(key=labels["key"].astype(str).astype(int))
    for (name, _), each in snapshots.items():
        assert each.labels.shape == (5, INPUTS)
        assert sorted(each.seeds) == [seed * 1_000_003 for seed in range(5)]
        assert each.intrinsic_lr == pytest.approx(0.04)
        if "to 100" not in name:
            rows = labels[(labels["member_id"] == "trunk-3") & (labels["step"] == each.step)].sort_values("key")
            np.testing.assert_array_equal(each.labels[list(each.seeds).index(3 * 1_000_003)], rows["value"])


def test_snapshots_without_weight_decay_are_left_out(tmp_path):
    off = {**phase(100, 0.04, 1.0), "weight_decay": 0.0}
    found = network(tmp_path, Planted(key="a", phases=[phase(100, 0.04, 1.0), off]), seeds=2, labels=[100, 200])
    assert [each.step for each in snapshots_of(found)] == [100]


def test_drops_are_read_around_the_drop(tmp_path):
    found = network(tmp_path, *drops(), seeds=2)
    table = drops_of(found).table.set_index(["arm", "seed"])
    assert len(table) == 4
    assert table["factor"].to_numpy() == pytest.approx(0.1)
    probes = found.study.tables.probes
    for arm, key in (("lr", "lr"), ("weight_decay", "wd")):
        rows = probes[
            (probes["member_id"] == f"{key}-0.008-1-500-0")
            & (probes["group"] == "0.weight")
            & (probes["key"] == "effective_lr")
        ]
        rows = rows.set_index("step")["value"].sort_index()
        row = table.loc[(arm, 0)]
        assert row["elr_last:0.weight"] == rows[500]
        assert row["elr_after:0.weight"] == rows[501]
        assert row["elr_before:0.weight"] == pytest.approx(rows[(rows.index > 350) & (rows.index <= 500)].mean())
        assert row["elr_end:0.weight"] == pytest.approx(rows[rows.index > 2700 - 660].mean())
        assert row["noise_end:3.weight"] == NOISE["3.weight"]


def test_an_interval_that_is_long_does_not_show_the_drop(tmp_path):
    found = network(tmp_path, *drops(every=100, first_rows=False), seeds=1)
    table = drops_of(found).table
    assert table["elr_after:0.weight"].isna().all()
    assert table["elr_end:0.weight"].notna().all()


def test_drops_are_compared_from_equal_settings(tmp_path):
    both, alone = drops(), drops(ratio=4.0)[:1]
    later, short = drops(before=600)[1:], drops(before=490)
    other = [replace(each, key=f"short-{each.key}") for each in drops(after=900)]
    found = network(tmp_path, *both, *alone, *later, *short, *other, seeds=1)
    dropped = drops_of(found)
    assert sorted(dropped.table["arm"]) == ["lr", "weight_decay"]
    assert dropped.short == 4
    only = drops_of(network(tmp_path / "alone", *alone, seeds=1))
    assert list(only.table["arm"]) == ["lr"]


def test_the_headline_comes_first_and_the_control_last(tmp_path):
    folder = control()
    extra = [replace(each, key=f"x{each.key}", variant="start", recipe_id="norm") for each in grid((0.02,), (1.0,))]
    head = [replace(each, key=f"y{each.key}", variant="a-head", recipe_id="head") for each in grid((0.02,), (1.0,))]
    folder = replace(
        folder,
        seeds=1,
        schedules=[*head, *folder.schedules, *extra],
        recipes={**folder.recipes, "head": recipe(model={"trains": "all"})},
        sweep={
            "headline": {"variant": "start"},
            "variants": {name: {} for name in ("no-norm", "main", "start", "a-head")},
        },
    )
    found = networks(tmp_path, folder)
    assert [each.name for each in found] == ["start", "a-head", "no-norm"]
    assert set(found[0].variants) == {"start", "main"}
    assert matching(found, {"variant": "main"}) is found[0]
    assert matching(found, {"variant": "nothing"}) is None
    assert matching(found, {}) is None
    assert found[0].is_scale_invariant
    assert found[2].is_scale_invariant is False
    assert found[0].layers == tuple(NOISE)
    plain = networks(tmp_path / "no-headline", replace(folder, sweep={}))
    assert plain[-1].name == "no-norm"


def test_networks_without_names_of_their_own_get_different_ones(tmp_path):
    schedules = [
        replace(each, recipe_id=name, key=f"{name}{each.key}", variant="")
        for name in ("one", "two")
        for each in grid((0.04,), (1.0,))
    ]
    found = networks(tmp_path, Folder(schedules=schedules, seeds=1, recipes={"one": recipe(), "two": recipe()}))
    assert sorted(each.name for each in found) == ["one", "two"]
    axes = Folder(schedules=[replace(schedules[0], variant="a b/c"), replace(schedules[1], variant="a/b")], seeds=1)
    assert {each.suffix for each in networks(tmp_path / "names", axes)} == {"-a-b-c", "-a-b"}


def test_margins_are_read_and_worded():
    assert Margins.of({"loss": 0.1, "angle": None, "unknown": 3}) == Margins(loss=0.1)
    assert Margins().words == "loss 5 %, error 1 point, effective learning rate 0.05 in the log, angle 3 %"
    assert "error 2 points" in Margins(error=0.02).words


def test_norms_of_the_planter_reach_the_equilibrium_of_the_theory():
    first = phase(2000, 0.005, 7.0)
    for noise in NOISE.values():
        norm = course([first], noise)["norm_sq"][-1]
        assert norm != pytest.approx(START, rel=0.1)
        assert norm**2 == pytest.approx(float(first["lr"]) * noise / (2 * float(first["weight_decay"])), rel=0.005)
