"""Accuracies on probe sets as rows: measured while training and measured afterwards, they are the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packs import SMALL, SWA, recipe, run, shared_pack, two_phase

from analysis.probing.accuracy import feature_rows_of
from trainables.arena import probe_groups_of
from trainables.build import build_task
from trainables.checkpoint import Checkpoints
from trainables.evaluate import Evaluator
from trainables.rows import ProbeRow
from trainables.spec import Measure, Recipe

TICKS = {"features": 4, "train_size": 64, "test_size": 50, "probe_size": 80}
# in float64 no prediction hangs on the rounding that tells one way of computing it from another
DIGITS = recipe(dtype="float64")
TICK = recipe(task="tick_features", task_args=TICKS, model_args=SMALL, dtype="float64")


def trained(of: Recipe, folder: Path, *probes: str) -> tuple[list[ProbeRow], Checkpoints]:
    """Rows of probe sets of a small pack on two draws of data, and its kept weights."""
    members = two_phase(of, lrs=[1e-2], finetune_lrs=[1e-3], seeds=(0, 1))
    measure = Measure(report_every=8, keep=(8, 16), swa=SWA, probes=probes)
    reports = run(shared_pack(members, measure=measure), folder, executor="loop")
    rows = [row for report in reports for row in report.probes]
    return [row for row in rows if row.probe != "final"], Checkpoints(folder / "checkpoints")


def afterwards(of: Recipe, kept: Checkpoints, groups: list[str], **options: int) -> list[ProbeRow]:
    keys = sorted(kept.entries())
    return feature_rows_of(
        Evaluator(of, [0, 1], probes=groups),
        kept.weights(keys),
        keys,
        [kept.seeds(key)[1] for key in keys],
        groups,
        steps=[kept.step(key) for key in keys],
        attempts=[0] * len(keys),
        **options,
    )


@pytest.mark.parametrize(
    ("of", "groups"),
    [(DIGITS, ["bands", "randomised_bands"]), (TICK, ["features", "resampled"])],
    ids=["digits", "tick"],
)
def test_measured_afterwards_equals_measured_while_training(of: Recipe, groups: list[str], tmp_path: Path) -> None:
    during, kept = trained(of, tmp_path, *groups)
    found = afterwards(of, kept, groups)
    assert len(set(found)) == len(found)
    assert {row for row in found if not row.group.startswith("step@")} == set(during)
    steps = {(row.step, row.group) for row in found if row.group.startswith("step@")}
    assert steps == {(8, "step@8"), (16, "step@16")}
    assert {row.n for row in found} == {100 if of is DIGITS else 80}


def test_features_alone_keep_their_rows_whatever_else_is_asked_for(tmp_path: Path) -> None:
    alone, _ = trained(TICK, tmp_path / "alone", "features")
    both, _ = trained(TICK, tmp_path / "both", "features", "resampled")
    assert {(row.probe, row.split) for row in alone} == {("feature_accuracy", "probe")}
    assert {row.key for row in alone} == {"feature_00", "feature_01", "feature_02", "feature_03"}
    assert [row for row in both if row.split == "probe"] == alone
    resampled = [row for row in both if row.split == "resampled"]
    assert [(row.member_id, row.group, row.key) for row in resampled] == [
        (row.member_id, row.group, row.key) for row in alone
    ]
    assert [row.value for row in resampled] != [row.value for row in alone]


def test_bands_of_fewer_samples(tmp_path: Path) -> None:
    _, kept = trained(DIGITS, tmp_path)
    rows = afterwards(DIGITS, kept, ["radial_bands"], samples=30)
    assert {row.n for row in rows} == {30}
    assert {row.split for row in rows} == {"radial"}
    assert "dc" in {row.key for row in rows}


def test_weights_that_are_not_finite_are_said_to_be_so_and_disturb_nobody() -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        state = build_task(TICK, 0).model().state_dict()
    weights = {name: t.double() + 0.1 * torch.randn(3, *t.shape, generator=generator) for name, t in state.items()}
    name = next(iter(weights))
    broken = {**weights, name: weights[name].clone()}
    broken[name][1].view(-1)[0] = torch.nan
    evaluator = Evaluator(TICK, [0], probes=["features"])
    keys = [("a", "end"), ("b", "end"), ("c", "swa@2")]
    options = {"steps": [5, 6, 7], "attempts": [1, 2, 3]}
    before, dice = {name: t.clone() for name, t in broken.items()}, torch.get_rng_state()
    found = feature_rows_of(evaluator, broken, keys, [0] * 3, ["features"], **options)
    assert torch.equal(torch.get_rng_state(), dice)
    assert all(torch.equal(broken[name].nan_to_num(7), before[name].nan_to_num(7)) for name in before)
    (fault,) = [row for row in found if row.probe == "fault"]
    assert (fault.member_id, fault.group, fault.step, fault.attempt, fault.value, fault.n) == (
        "b",
        "end",
        6,
        2,
        None,
        0,
    )
    assert "finite" in fault.key
    whole = feature_rows_of(evaluator, weights, keys, [0] * 3, ["features"], **options)
    others = [row for row in found if row.probe != "fault"]
    assert len(others) == 2 * 4
    assert set(others) == {row for row in whole if row.member_id != "b"}
    lost = {name: torch.full_like(t, torch.inf) for name, t in weights.items()}
    assert [row.probe for row in feature_rows_of(evaluator, lost, keys, [0] * 3, ["features"], **options)] == [
        "fault"
    ] * 3


def test_groups_that_a_task_has() -> None:
    assert probe_groups_of(build_task(TICK, 0)) == ("features", "resampled")
    bands = ("bands", "bands_renormalised", "radial_bands", "randomised_bands")
    assert probe_groups_of(build_task(DIGITS, 0)) == bands
    assert probe_groups_of(replace(build_task(DIGITS, 0), probe_groups={})) == ()
