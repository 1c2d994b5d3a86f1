"""What checks outside the repository rely on: commands, exit codes, the results folder, columns and JSON keys.

Everything runs as a user would run it, in a process of its own; nothing here imports the project.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

COMMANDS = ["presets", "plan", "run", "resume", "status", "mirror", "sql", "band", "submit", "doctor"]
PRESETS = {
    *("band-digits", "band-tick", "band-tick-paper"),
    *("lambda-eta-digits", "decay-drop-digits", "fast-equilibrium-digits", "full-batch-gd", "decay-timing-tick"),
    *("lambda-eta-cifar10-convnet", "equilibrium-schedules-cifar10", "decay-timing-cifar10"),
}
EPOCH_COLUMNS = [
    *("member_id", "attempt", "epoch", "step", "lr", "train_loss", "train_error", "valid_loss", "valid_error"),
    *("test_loss", "test_error", "weight_norm_sq", "grad_norm_sq", "seconds"),
]
PROBE_COLUMNS = [
    *("member_id", "attempt", "step", "probe", "split", "group", "key", "value", "n", "other_member_id"),
]
MEMBER_COLUMNS = {
    *("member_id", "parent_id", "task", "model", "batch_size", "sphere_radius", "decoupled", "dtype"),
    *("seed", "data_seed", "momentum", "lr", "weight_decay", "steps", "status", "status_reason"),
}
PLAN_KEYS = {
    *("members", "segments", "packs", "member_steps", "member_steps_without_sharing"),
    *("estimated_seconds", "estimated_memory_bytes", "estimated_disk_bytes"),
}
ANSWER_KEYS = {
    *("metric", "optimum_lr", "band", "band_ci", "regimes", "convergence_threshold", "convergence_threshold_ci"),
    *("budget_steps", "gain_over_regime_1", "gain_ci", "n_seeds", "member_steps"),
}
TINY = """
name: tiny
question: Does every part meet the next?
task: {name: digits, train_size: 64, test_size: 100}
model: {name: mlp_si, width: 8, depth: 2}
train: {batch_size: 16, sphere_radius: 1.0}
phases:
  - {name: pretrain, steps: 40, swa: {every: 5, windows: [3]}}
  - {name: finetune, steps: 20}
axes:
  pretrain_lr: {values: [1.0e-3, 1.0e-2, 1.0e-1]}
  finetune_lr: {values: [1.0e-3]}
  label_noise: {values: [0.0, 0.2]}
  seed: {range: 2}
measure: {report_every: 20}
headline: {label_noise: 0.2}
analysis: {kind: band, metric: swa}
run: {executor: loop}
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def lratlas(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("sweeps", *arguments, cwd=cwd)


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_help_lists_every_command(tmp_path: Path) -> None:
    done = lratlas("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert [name for name in COMMANDS if f" {name} " not in done.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = lratlas(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"lratlas {command}" in done.stdout.split("Example", 1)[1]
    assert "--json" in done.stdout


@pytest.mark.slow
def test_presets(tmp_path: Path) -> None:
    found = printed(lratlas("presets", "--json", cwd=tmp_path))
    assert {preset["name"] for preset in found} >= PRESETS
    assert all(set(preset) >= {"name", "question", "source", "tag", "cost"} for preset in found)


def test_plan_of_the_published_study(tmp_path: Path) -> None:
    found = printed(lratlas("plan", "band-tick-paper", "--json", cwd=tmp_path))
    assert set(found) >= PLAN_KEYS
    # 23 learning rates x 10 seeds x 5 draws of the data, each fine-tuned at 11: 13,800 runs, 299 million steps.
    assert found["members"] == 13_800
    assert found["member_steps"] == 299_000_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("plan", "no-such-study"), "no-such-study"),
        (("run", "band-digits", "--set", "task.name=nothing", "--out", "out"), "nothing"),
        (("run", "band-digits", "--set", "axes.pretrain_lr.values=[-0.1]", "--out", "out"), "-0.1"),
        (("run", "band-digits", "--set", "surprise=1", "--out", "out"), "surprise"),
        (("status", "nowhere"), "nowhere"),
        (("resume", "nowhere"), "nowhere"),
        (("mirror", "nowhere"), "nowhere"),
        (("sql", "nowhere", "SELECT 1"), "nowhere"),
        (("submit", "band-digits", "--address", "auto"), "auto"),
    ],
)
def test_wrong_input_is_2_with_the_value_found_and_nothing_written(
    arguments: tuple[str, ...], found: str, tmp_path: Path
) -> None:
    done = lratlas(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert found in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_sweep_from_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    planned = printed(lratlas("plan", "tiny.yaml", "--json", cwd=tmp_path))
    run = lratlas("run", "tiny.yaml", "--runner", "inprocess", "--out", "out", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    out = tmp_path / "out"

    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest) >= {"schema_version", "sweep", "versions", "device", "git_commit", "command_line"}
    members = pq.read_table(out / "members.parquet")
    assert set(members.column_names) >= MEMBER_COLUMNS | {"train_size", "label_noise", "width", "pretrain_lr"}
    assert members.num_rows == planned["members"] == 24
    assert set(members["status"].to_pylist()) == {"completed"}
    assert all(pq.read_schema(path).names == EPOCH_COLUMNS for path in (out / "epochs").glob("*.parquet"))
    assert all(pq.read_schema(path).names == PROBE_COLUMNS for path in (out / "probes").glob("*.parquet"))
    errors = pq.read_table(out / "epochs")["test_error"].to_pylist()
    assert all(0 <= error <= 1 for error in errors)
    checkpoints = [path for path in (out / "checkpoints").rglob("*") if path.is_file()]
    assert {path.suffix for path in checkpoints} == {".safetensors", ".json"}
    report = out / "report"
    assert {path.suffix for path in report.iterdir()} >= {".html", ".png", ".svg", ".csv", ".json"}
    assert str(Path("out/report/index.html")) in run.stdout.replace("\n", "")

    answer = json.loads((report / "answer.json").read_text())
    assert set(answer) >= ANSWER_KEYS | {"arms"}
    assert [arm["arm"] for arm in answer["arms"]] == [{"label_noise": 0.0}, {"label_noise": 0.2}]
    headline = answer["arms"][1]
    of_the_arm = ANSWER_KEYS - {"member_steps"}  # at the top the whole study's
    assert {key: headline[key] for key in of_the_arm} == {key: answer[key] for key in of_the_arm}
    assert answer["metric"] == "swa"
    assert answer["member_steps"] == planned["member_steps"]

    status = printed(lratlas("status", "out", "--json", cwd=tmp_path))
    assert {key: status[key] for key in ("members", "by_status", "done")} == {
        "members": 24,
        "by_status": {"completed": 24},
        "done": True,
    }
    assert status["rows"] == len(errors)
    counted = printed(lratlas("sql", "out", "SELECT count(*) AS n FROM epochs", "--json", cwd=tmp_path))
    assert counted == [{"n": len(errors)}]
    assert printed(lratlas("mirror", "out", "--json", cwd=tmp_path))["written"] == 0
    analysis = printed(python("analysis", "band", "out", "--json", cwd=tmp_path))
    assert set(analysis) >= ANSWER_KEYS

    # Finished work is not repeated, and a folder that is taken is not written over.
    before = {path: path.stat().st_mtime_ns for path in (out / "epochs").iterdir()}
    assert lratlas("resume", "out", cwd=tmp_path).returncode == 0
    again = lratlas("run", "tiny.yaml", "--out", "out", cwd=tmp_path)
    assert again.returncode == 2
    assert {path: path.stat().st_mtime_ns for path in (out / "epochs").iterdir()} == before
