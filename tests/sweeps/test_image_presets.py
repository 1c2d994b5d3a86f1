"""Every preset on images trains, averages, fine-tunes and answers: with few images, few steps and narrow networks."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli import app

pytestmark = pytest.mark.slow

NARROW = {
    "band-cifar10-small": ["model.width=2"],
    "band-cifar10-convnet": ["model.width=2"],
    "band-cifar10-resnet18": ["model.width=2"],
    "band-cifar10-practical": ["model.width=2"],
    "band-vit": ["model.width=16", "model.depth=1", "model.heads=2", "model.head_width=8", "model.hidden=16"],
}


@pytest.mark.parametrize("preset", NARROW)
def test_preset_made_small_gives_an_answer(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(os.environ.get("LRATLAS_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (folder / "cifar10-train.parquet").exists():
        pytest.skip(f"needs the CIFAR-10 images: no cifar10-train.parquet in {folder}; set LRATLAS_DATA")
    monkeypatch.setenv("LRATLAS_DATA", str(folder))
    changes = [
        "task.train_size=64",
        "task.valid_size=40",
        "task.test_size=50",
        "train.batch_size=16",
        "phases.0.steps=8",
        "phases.0.swa.every=2",
        "phases.0.swa.windows=[2]",
        "phases.1.steps=4",
        "measure.report_every=4",
        "axes.pretrain_lr.values=[1.0e-4, 1.0e-3]",
        "axes.finetune_lr.values=[1.0e-5]",
        "axes.seed.range=2",
        "run.gpus_per_pack=0",
        "analysis.metric=auto",
        *NARROW[preset],
    ]
    options = [word for change in changes for word in ("--set", change)]
    command = ["run", preset, "--out", str(tmp_path / "out"), "--runner", "inprocess", "--json", *options]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    answer = json.loads((tmp_path / "out" / "report" / "answer.json").read_text())
    assert answer["n_seeds"] == 2
    assert answer["optimum_lr"] in (1e-4, 1e-3)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["images"], "the manifest must say which images were used"
    assert {entry["executor"] for entry in manifest["executors"].values()} <= {"loop", "grouped"}
