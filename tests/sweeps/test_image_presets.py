"""Every preset on images trains, measures and answers: with few images, few steps and narrow networks."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from sweeps.cli import app

pytestmark = pytest.mark.slow

# Width 8 and not less: narrower residual networks have crashed torch's own backward pass on CPUs.
NARROW = {
    "band-cifar10-small": ["model.width=8"],
    "band-cifar10-convnet": ["model.width=8"],
    "band-cifar10-resnet18": ["model.width=8"],
    "band-cifar10-practical": ["model.width=8"],
    "band-vit": ["model.width=16", "model.depth=1", "model.heads=2", "model.head_width=8", "model.hidden=16"],
}
FEW = ["task.train_size=64", "task.test_size=50", "train.batch_size=16", "axes.seed.range=2", "run.gpus_per_pack=0"]


def answer_of(preset: str, folder: Path, changes: list[str]) -> dict[str, Any]:
    options = [word for change in [*FEW, *changes] for word in ("--set", change)]
    command = ["run", preset, "--out", str(folder), "--runner", "inprocess", "--json", *options]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["images"], "the manifest must say which images were used"
    assert {entry["executor"] for entry in manifest["executors"].values()} <= {"loop", "grouped"}
    assert (folder / "report" / "index.html").exists()
    return json.loads((folder / "report" / "answer.json").read_text())  # type: ignore[no-any-return]


def members(folder: Path) -> pd.DataFrame:
    found = pd.read_parquet(folder / "members.parquet")
    assert set(found["status"]) == {"completed"}
    return found


@pytest.mark.usefixtures("cifar10_folder")
@pytest.mark.parametrize("preset", NARROW)
def test_band_made_small_gives_an_answer(preset: str, tmp_path: Path) -> None:
    changes = [
        "task.valid_size=40",
        "phases.0.steps=8",
        "phases.0.swa.every=2",
        "phases.0.swa.windows=[2]",
        "phases.1.steps=4",
        "measure.report_every=4",
        "axes.pretrain_lr.values=[1.0e-4, 1.0e-3]",
        "axes.finetune_lr.values=[1.0e-5]",
        "analysis.metric=auto",
        *NARROW[preset],
    ]
    answer = answer_of(preset, tmp_path / "out", changes)
    assert answer["n_seeds"] == 2
    assert answer["optimum_lr"] in (1e-4, 1e-3)


@pytest.mark.usefixtures("cifar10_folder")
def test_products_made_small_are_told_to_be_too_short(tmp_path: Path) -> None:
    """Eight steps are far from any equilibrium: nothing is decided, and the report says why."""
    changes = [
        "model.width=8",
        "axes.intrinsic_lr.values=[1.0e-3, 2.0e-3]",
        "axes.ratio.values=[1.0, 10.0]",
        "phases.0.steps=8",
        "variants.main.phases.0.steps=8",
        "variants.main.phases.1.steps=4",
        "variants.main.phases.1.trace_every=2",
        "variants.no-norm.model.width=8",
        "measure.report_every=4",
        "measure.trace_every=4",
    ]
    answer = answer_of("lambda-eta-cifar10-convnet", tmp_path / "out", changes)
    assert answer["verdict"] == "INCONCLUSIVE"
    assert answer["sentence"].startswith("main: INCONCLUSIVE")
    assert (answer["runs"], answer["runs_too_short"]) == (0, 8)
    assert answer["tests"]["T0"]["verdict"] == "EQUIVALENT"
    found = members(tmp_path / "out")
    assert found["variant"].value_counts().to_dict() == {"main": 16, "no-norm": 8}  # kicked and not
    probes = pd.read_parquet(tmp_path / "out" / "probes")
    layers = probes.query("probe == 'trace'").groupby("member_id")["group"].unique()
    plain = set(found.query("variant == 'no-norm'")["member_id"])
    assert all(("trained" in groups) == (member in plain) for member, groups in layers.items())
    assert all(("scale_invariant" in groups) != (member in plain) for member, groups in layers.items())


@pytest.mark.usefixtures("cifar10_folder")
def test_random_schedules_made_small_give_a_report(tmp_path: Path) -> None:
    changes = [
        "model.width=8",
        "axes.wander_schedule.range=2",
        "phases.0.steps=40",
        "phases.1.steps=8",
        "phases.2.steps=8",
        "measure.report_every=4",
        "measure.trace_every=4",
        "measure.labels.steps=[40, 48, 56]",
        "measure.labels.samples=20",
    ]
    answer = answer_of("equilibrium-schedules-cifar10", tmp_path / "out", changes)
    assert answer["sentence"]
    found = members(tmp_path / "out")
    courses = [json.loads(phases) for phases in found["phases"]]
    courses = [course for course in courses if len(course) == 6]  # the others are what they branch from
    names = ("wander_1", "wander_2", "wander_3", "wander", "equal", "settle")
    assert [tuple(phase["name"] for phase in course) for course in courses] == [names] * 4
    assert len({tuple(phase["lr"] for phase in course[:4]) for course in courses}) == 2
    assert {(phase["lr"], phase["weight_decay"]) for course in courses for phase in course[4:]} == {
        (0.1, 5e-4),
        (0.1 * 0.1, 0.0),
    }
    labels = pd.read_parquet(tmp_path / "out" / "probes").query("probe == 'label'")
    assert labels.groupby(["member_id", "step"]).size().tolist() == [20] * 12


@pytest.mark.usefixtures("cifar10_folder")
def test_decay_times_made_small_give_a_recommendation(tmp_path: Path) -> None:
    changes = [
        "task.valid_size=40",
        "model.width=8",
        "axes.train_lr.values=[0.02]",
        "axes.weight_decay.values=[5.0e-4]",
        "phases.0.steps=40",
        "measure.report_every=2",
        "measure.trace_every=2",
    ]
    answer = answer_of("decay-timing-cifar10", tmp_path / "out", changes)
    assert answer["n_seeds"] == 2
    assert answer["chosen_on"] == "valid"
    assert "2 seeds" in answer["sentence"]
    assert {row["decay_at"] for row in answer["grid"]} == {10, 20, 30, 36, None}
    assert len(members(tmp_path / "out")) == 14
