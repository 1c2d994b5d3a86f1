"""A small sweep through the real command line and Ray: what a newcomer does, and what they then look at."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LRS = [1e-3, 1e-2, 1e-1, 1.0]
SEEDS = 3
STEPS, FINE = 200, 50
SWEEP = {
    "name": "first",
    "question": "Which initial learning rate is best for these 100 digits?",
    "source": "an end-to-end test",
    "task": {"name": "digits", "train_size": 100, "test_size": 200, "label_noise": 0.2},
    "model": {"name": "mlp_si", "width": 16},
    "train": {"batch_size": 16, "sphere_radius": 1.0},
    "phases": [
        {"name": "pretrain", "steps": STEPS, "swa": {"every": 10, "windows": [4]}},
        {"name": "finetune", "steps": FINE, "lr": 1e-3},
    ],
    "axes": {"pretrain_lr": {"values": LRS}, "seed": {"range": SEEDS}, "data_seed": {"same_as": "seed"}},
    "measure": {"report_every": 50},
    # The loop executor compiles nothing: what is tested here is the way from the command to the report.
    "run": {"executor": "loop", "members_per_pack": 6},
}


class Page(HTMLParser):
    """Collects what a page shows and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        wanted = {"img": "src", "script": "src", "link": "href", "iframe": "src"}.get(tag, "")
        if value := named.get(wanted):
            self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("first")
    (folder / "first.yaml").write_text(yaml.safe_dump(SWEEP))
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", "run", "first.yaml", "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return folder, done


pytestmark = pytest.mark.ray


def test_the_command_succeeds_and_prints_json_only(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = run
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["by_status"] == {"completed": 2 * len(LRS) * SEEDS}
    (out,) = (folder / "runs").iterdir()
    assert out.name.startswith("first-")
    assert folder / said["directory"] == out
    assert said["answer"] == json.loads((out / "report" / "answer.json").read_text())
    assert said["answer"]["n_seeds"] == SEEDS
    assert said["answer"]["optimum_lr"] in LRS
    assert said["answer"]["member_steps"] == len(LRS) * SEEDS * (STEPS + FINE)
    assert "mlflow.db" in said["mlflow"]


def test_tables_hold_every_member_and_every_interval(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    (out,) = (run[0] / "runs").iterdir()
    members = pd.read_parquet(out / "members.parquet")
    assert set(members["status"]) == {"completed"}
    assert sorted(members["pretrain_lr"].unique()) == LRS
    epochs = pd.concat(pd.read_parquet(path) for path in (out / "epochs").glob("*.parquet"))
    steps = epochs.merge(members, on="member_id").groupby("phase")["step"]
    assert steps.unique().map(sorted).to_dict() == {"pretrain": [50, 100, 150, 200], "finetune": [250]}
    assert len(epochs) == len(LRS) * SEEDS * 5
    assert epochs["test_error"].between(0, 1).all()
    # Twelve networks of one pack, trained in another process, have learned something.
    assert epochs["test_error"].min() < 0.4


def test_the_report_is_one_self_contained_page_with_the_answer(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    (out,) = (run[0] / "runs").iterdir()
    page = Page((out / "report" / "index.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.words).split())
    assert SWEEP["question"] in text
    assert all(target.startswith("data:") for target in page.loads)
    assert "img" in page.tags or "svg" in page.tags
    assert list((out / "report").glob("*.png"))
    assert list((out / "report").glob("*.csv"))
