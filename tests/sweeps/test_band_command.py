"""`lratlas band` as a user types it in a folder of their own, and errors in the code of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps.band_design import read_budget
from sweeps.cli import invoke
from sweeps.own_name import find_target
from trainables.spec import SpecError

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "own-task.md"
EXAMPLES = ROOT / "docs" / "examples"
SHORT = ("--lr-low", "0.01", "--lr-high", "0.1", "--per-decade", "2", "--seeds", "2")


def test_where_a_task_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for path in (here / "sub" / "own_band_task.py", elsewhere / "far.py", here / "not-a-name.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def task(): ...\n")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for form in (
        "sub.own_band_task:task",
        "sub/own_band_task.py:task",
        str(here / "sub" / "own_band_task.py") + ":task",
    ):
        assert find_target(form) == "sub.own_band_task:task"
    faults = {
        "sub/own_band_task.py": "write sub/own_band_task.py:FUNCTION",
        "digits": "must be MODULE:FUNCTION, found 'digits'",
        "sub.own_band_task:": "must be MODULE:FUNCTION",
        "gone.py:task": "found none at gone.py",
        f"{elsewhere}/far.py:task": f"run `cd {elsewhere}` first",
        "not-a-name.py:task": "must be importable, found not-a-name.py",
        "sub.own_band_task:tusk": "did you mean 'task'",
        "sub.absent:task": "no module 'sub.absent'",
    }
    for form, words in faults.items():
        with pytest.raises(SpecError) as caught:
            find_target(form)
        assert words in caught.value.faults[0]


def lratlas(*arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeps", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A folder with the files that the document names, and nothing else."""
    (code,) = re.findall(r"```python\n(.*?)```", section("Twenty lines"), re.DOTALL)
    (tmp_path / "digits_task.py").write_text(code)
    (tmp_path / "loader_task.py").write_text((EXAMPLES / "loader_task.py").read_text())
    return tmp_path


def section(title: str) -> str:
    return DOCUMENT.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [line.split() for block in blocks for line in block.strip().splitlines()]
    trained = [line[1:] for line in lines if line[0] == "lratlas"]
    assert len(trained) >= 2
    # what is measured afterwards (tests/analysis/test_probe_jobs.py runs these)
    assert all(line[:3] == ["python", "-m", "analysis"] for line in lines if line[0] != "lratlas")
    return trained


def test_the_document_shows_the_example_that_is_shipped_and_every_option(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", section("Twenty lines"), re.DOTALL)
    assert code == (EXAMPLES / "digits_task.py").read_text()
    own = [line for line in code.split("class Net")[1].splitlines() if line.strip()]
    assert len(own) <= 20
    found = lratlas("band", "--help", cwd=tmp_path)
    assert "Example: lratlas band" in " ".join(found.stdout.split())
    options = set(re.findall(r"--[a-z][a-z-]+", found.stdout)) - {"--help", "--json"}
    assert {option for option in options if f"`{option}" not in DOCUMENT.read_text()} == set()


@pytest.mark.slow
@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_document_plan_what_they_say(words: list[str], user: Path) -> None:
    before = {path.name for path in user.iterdir()}
    found = lratlas(*words, "--dry-run", "--json", cwd=user)
    assert found.returncode == 0, found.stderr
    printed = json.loads(found.stdout)
    allowed = read_budget(words[words.index("--budget") + 1]).seconds
    assert allowed is not None
    assert printed["plan"]["estimated_seconds"] <= allowed
    assert any("initial rates from 0.0001 to 1" in note for note in printed["notes"])
    assert {path.name for path in user.iterdir()} - before <= {"__pycache__"}


@pytest.fixture
def here(user: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder as the current one of this process: quicker than a process of its own."""
    monkeypatch.chdir(user)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("digits_task", "loader_task"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return user


@pytest.mark.parametrize("task", ["digits_task:digits", "digits_task.py:digits", "loader_task:digits"])
def test_both_examples_are_planned(task: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in here.iterdir()}
    assert invoke("band", [task, "--steps", "500", "--budget", "100", "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    # 13 rates x 3 seeds, each fine-tuned once: the most steps that a hundred networks can have.
    assert printed["plan"]["members"] == 78
    assert printed["sweep"]["train"]["batch_size"] == 64
    assert printed["sweep"]["phases"][1]["steps"] == 200
    assert not any("validation split" in note for note in printed["notes"])
    assert {path.name for path in here.iterdir()} - before <= {"__pycache__"}


def check_result(out: Path, printed: dict[str, Any]) -> None:
    """What `--json` prints is answer.json and settings that fit it."""
    config = printed.pop("config")
    run = printed.pop("run")
    assert run["by_status"] == {"completed": run["by_status"]["completed"]}
    assert printed == json.loads((out / "report" / "answer.json").read_text())
    assert config == json.loads((out / "report" / "config.json").read_text())
    assert config["initial_lr"] == printed["optimum_lr"]
    assert (config["optimizer"], config["batch_size"], config["weight_decay"]) == ("sgd", 64, 0.0)
    assert config["sweep"]["task"] == {"name": "digits_task:digits", "width": 4}
    assert printed["chosen_on"] == "valid"
    assert (out / "report" / "index.html").exists()
    assert run["report"] == str(Path(out.name) / "report" / "index.html")


@pytest.mark.slow
def test_the_example_runs_from_outside_the_repository(user: Path) -> None:
    words = ["band", "digits_task.py:digits", "--steps", "20", *SHORT, "--set", "task.width=4"]
    found = lratlas(*words, "--runner", "inprocess", "--json", "--out", "out", cwd=user)
    assert found.returncode == 0, found.stderr
    check_result(user / "out", json.loads(found.stdout))
    # The settings' sweep is a file that runs again; JSON is YAML.
    sweep = json.loads((user / "out/report/config.json").read_text())["sweep"]
    (user / "again.yaml").write_text(json.dumps(sweep))
    planned = lratlas("plan", "again.yaml", "--json", cwd=user)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["members"] == 3 * 2 * (1 + 2)


@pytest.mark.slow
@pytest.mark.ray
def test_the_command_of_the_document_through_ray(user: Path) -> None:
    words = ["band", "digits_task:digits", "--steps", "30", *SHORT, "--out", "out", "--set", "task.width=4"]
    found = lratlas(*words, cwd=user)
    assert found.returncode == 0, found.stdout + found.stderr
    for word in ("the best initial learning rate is", "Use it:", "torch.optim.SGD", "out/report/index.html"):
        assert word in found.stdout
    resumed = lratlas("resume", "out", cwd=user)
    assert resumed.returncode == 0
    assert "nothing was left to do" in resumed.stdout


def test_wrong_input_is_2_and_nothing_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits_task:digit", "--steps", "0", "--budget", "soon", "--runner", "slurm"]
    assert invoke("band", words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for text in ("4 faults", "did you mean 'digits'", "--steps must be", "--budget must be", "--runner must be"):
        assert text in said.err
    assert {path.name for path in here.iterdir()} <= {"digits_task.py", "loader_task.py", "__pycache__"}


def test_a_budget_that_is_too_small_says_what_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("band", ["digits_task:digits", "--steps", "20", "--budget", "35"]) == 2
    assert "9 initial rates x 2 seeds, 36 members, found 35 members; give more" in capsys.readouterr().err


FAILING = """
import torch
from torch import nn
from trainables.tasks import Split, Task


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        if self.layer.weight.abs().max() > 5:
            raise ArithmeticError("weights out of hand")
        return self.layer(x)


def task(tag: int = 0):
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return Task(model=Net, train=Split(x[:20], y[:20]), test=Split(x[20:], y[20:]))
"""
FAILING_SWEEP = """
name: failing
task: {name: "failing:task"}
train: {batch_size: 4}
phases: [{name: pretrain, steps: 40}]
axes: {lr: {values: [1.0e-3, 300.0]}, tag: {values: [0, 1]}, seed: {range: 2}}
measure: {report_every: 10}
headline: {tag: 0}
run: {members_per_pack: 1, executor: loop}
"""


def check_told_once(text: str, place: Path) -> None:
    """Four networks of four packs were ended by one line of the user's."""
    assert text.count("ArithmeticError: weights out of hand") == 1
    assert text.count("Traceback (most recent call last)") == 1
    assert "4 members of 4 packs, by an error in your code" in text
    trace = text.split("Traceback (most recent call last):")[1]
    assert trace.strip().startswith(f'File "{place}/failing.py", line 14, in forward')
    assert re.search(r"while training member [0-9a-f]{16} \(lr 300, seed [01], tag [01]\)\n", text)
    assert "row " not in trace
    whole = sorted((place / "out" / "state").glob("*.error.txt"))
    assert len(whole) == 4
    assert all("trainables/loop.py" in path.read_text() for path in whole)


def write_failing(place: Path) -> None:
    (place / "failing.py").write_text(FAILING)
    (place / "failing.yaml").write_text(FAILING_SWEEP)


def test_an_error_in_training_is_told_once_with_its_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_failing(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    only = ["--set", "axes.lr.values=[300.0]", "--runner", "inprocess", "--out", "out"]
    assert invoke("run", ["failing.yaml", *only]) == 3
    text = capsys.readouterr().out
    check_told_once(text, tmp_path)
    assert "No answer: every member failed." in text
    assert "lratlas resume out --runner inprocess" in text
    assert not (tmp_path / "out" / "report").exists()


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["inprocess", pytest.param("ray", marks=pytest.mark.ray)])
def test_members_that_an_error_did_not_strike_go_on(runner: str, tmp_path: Path) -> None:
    write_failing(tmp_path)
    found = lratlas("run", "failing.yaml", "--out", "out", "--runner", runner, cwd=tmp_path)
    assert found.returncode == 3, found.stdout + found.stderr
    check_told_once(found.stdout, tmp_path)
    assert "4 completed · 4 failed" in found.stdout
    assert (tmp_path / "out" / "report" / "index.html").exists()
    # Mended, what failed is trained, and nothing of the error is left.
    (tmp_path / "failing.py").write_text(FAILING.replace("> 5", "> 5e9"))
    resumed = lratlas("resume", "out", "--runner", runner, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "failed" not in resumed.stdout
    assert list((tmp_path / "out" / "state").glob("*.error.*")) == []
