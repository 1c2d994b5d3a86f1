"""Each confounder is seen where it is planted, and none where there is none."""

from dataclasses import replace

import pandas as pd
import pytest
from planted_law import Folder, Law, Planted, grid, phase, plant, recipe

from analysis.invariance.confounders import confounders_of, recipe_of, symmetry_of
from analysis.invariance.courses import networks_of
from analysis.invariance.runs import equilibrium_runs
from analysis.study import load_study

RUNS = grid((0.04,), (1.0,))
PLANTED = {
    "nothing": (Folder(schedules=RUNS), None, None),
    "its own fixed group": (
        Folder(
            schedules=RUNS,
            recipes={
                "norm": recipe(
                    model={"trains": "all"}, groups=[{"parameters": ["@other"], "lr": 0.05, "weight_decay": 2e-3}]
                )
            },
        ),
        None,
        None,
    ),
    "decoupled without momentum": (Folder(schedules=RUNS, recipes={"norm": recipe(decoupled=True)}), None, None),
    "a harmless eps": (Folder(schedules=RUNS), 1e-6, None),
    "eps": (Folder(schedules=RUNS), 1e-2, "norm eps"),
    "no norms": (Folder(schedules=RUNS, recipes={"norm": recipe(model={"norm": "none"})}), None, "no scale invariance"),
    "trained head": (
        Folder(schedules=RUNS, recipes={"norm": recipe(model={"trains": "all"})}),
        None,
        "parameters outside the symmetry",
    ),
    "half a group": (
        Folder(
            schedules=RUNS,
            recipes={"norm": recipe(model={"trains": "all"}, groups=[{"parameters": ["@other"], "lr": 0.05}])},
        ),
        None,
        "parameters outside the symmetry",
    ),
    "running statistics": (
        Folder(schedules=RUNS, sweep={"measure": {"norm_statistics": "running"}}),
        None,
        "stale norm statistics",
    ),
    "of one variant": (
        Folder(
            schedules=[*RUNS, *(replace(each, key="other", variant="other") for each in RUNS)],
            sweep={"variants": {"main": {"measure": {"norm_statistics": "training_set"}}, "other": {"measure": {}}}},
        ),
        None,
        "stale norm statistics",
    ),
    "adam": (Folder(schedules=RUNS, recipes={"norm": recipe(optimizer="adam")}), None, "optimiser"),
    "momentum": (Folder(schedules=[replace(each, momentum=0.5) for each in RUNS]), None, "momentum"),
    "warm-up": (
        Folder(schedules=[*RUNS, Planted(key="c", phases=[phase(200, 0.04, 1.0, curve={"kind": "cosine"})])]),
        None,
        "curves",
    ),
    "short": (Folder(schedules=[*RUNS, Planted(key="s", phases=[phase(190, 0.04, 1.0)])]), None, "short runs"),
    "no noise": (Folder(schedules=RUNS, laws={"norm": Law(level=1e-3)}), None, "no gradient noise"),
    "far from equilibrium": (
        Folder(schedules=[Planted(key="far", phases=[phase(200, 0.04, 1.0, kick=1000.0)])]),
        None,
        "unequal starts",
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_planted_is_seen_and_nothing_else(case, tmp_path):
    folder, own_eps, name = PLANTED[case]
    (network,) = networks_of(load_study(plant(tmp_path, replace(folder, seeds=2))))
    known = recipe_of(network)
    found = confounders_of(network, equilibrium_runs(network, 0.3), known, symmetry_of(known, 0), own_eps)
    assert [each.name for each in found] == ([name] if name else [])
    assert all(each.found.endswith(".") and each.remedy for each in found)
    assert pd.DataFrame([each.as_json() for each in found]).notna().all(axis=None)


def test_decoupled_weight_decay_matters_with_momentum(tmp_path):
    folder = Folder(
        schedules=[replace(each, momentum=0.5) for each in RUNS], recipes={"norm": recipe(decoupled=True)}, seeds=1
    )
    (network,) = networks_of(load_study(plant(tmp_path, folder)))
    known = recipe_of(network)
    found = confounders_of(network, equilibrium_runs(network, 0.3), known, symmetry_of(known, 0), None)
    assert {each.name for each in found} == {"decoupled weight decay", "momentum"}


def test_a_network_that_cannot_be_built_here_has_no_known_symmetry(tmp_path):
    folder = Folder(schedules=RUNS, recipes={"norm": recipe(task="nowhere.to_be_found:task")}, seeds=1)
    (network,) = networks_of(load_study(plant(tmp_path, folder)))
    known = recipe_of(network)
    assert known is not None
    assert symmetry_of(known, 0) is None
    assert confounders_of(network, equilibrium_runs(network, 0.3), known, None, None) == []
