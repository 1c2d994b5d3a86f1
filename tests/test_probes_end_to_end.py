"""A small sweep with probes through the real command line and Ray, whole and interrupted while they are measured."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LRS = [1e-3, 1e-1]
SEEDS = 2
SWEEP: dict[str, Any] = {
    "name": "probed",
    "question": "How do the solutions of these 100 digits lie?",
    "source": "an end-to-end test",
    "task": {"name": "digits", "train_size": 100, "test_size": 100},
    "model": {"name": "mlp_si", "width": 8},
    "train": {"batch_size": 20, "sphere_radius": 1.0},
    "phases": [
        {"name": "pretrain", "steps": 60, "swa": {"every": 10, "windows": [4]}},
        {"name": "finetune", "steps": 20},
    ],
    "axes": {
        "pretrain_lr": {"values": LRS},
        "finetune_lr": {"values": [1e-4, 1e-2]},
        "seed": {"range": SEEDS},
        "data_seed": {"same_as": "seed"},
    },
    "measure": {"report_every": 20},
    "probes": {"geometry": {"samples": 60, "points": 5}, "features": {}},
    "run": {"executor": "loop"},
}
KEY = ["member_id", "step", "probe", "split", "group", "key", "other_member_id"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sweeps", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def finish(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )


def write_sweep(folder: Path) -> None:
    (folder / "probed.yaml").write_text(yaml.safe_dump(SWEEP))


def measured(folder: Path) -> pd.DataFrame:
    """What the jobs wrote, in the order of its key."""
    parts = [pd.read_parquet(path) for path in jobs_done(folder)]
    return pd.concat(parts).sort_values(KEY, ignore_index=True)


def jobs_done(folder: Path) -> list[Path]:
    return sorted(path for kind in ("geometry", "features") for path in (folder / "out" / "probes").glob(f"{kind}.*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    write_sweep(folder)
    done = finish(folder, "run", "probed.yaml", "--out", "out", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout)


def test_every_job_is_done_and_nothing_is_at_fault(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, said = whole
    assert said["probes"]["faults"] == []
    assert said["probes"]["failures"] == {}
    assert said["probes"]["left"] == 0
    assert said["probes"]["jobs"] == len(jobs_done(folder)) > 0
    found = measured(folder)
    assert not found.duplicated(KEY).any()
    curvature = found[(found["probe"] == "curvature") & (found["key"] == "lambda_1")]
    # Of each pre-training: low, high, the average, and its end.
    assert len(curvature) == len(LRS) * SEEDS * 4
    assert curvature["value"].notna().all()
    chords = found[(found["probe"] == "barrier") & (found["key"] == "error_chord") & (found["group"] == "end~end")]
    assert len(chords) == len(LRS) * SEEDS * 2  # train and test
    assert {"gradient", "sharpness", "angle", "linear_probe", "collapse"} <= set(found["probe"])


def test_report_and_view_come_after_the_probes(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, said = whole
    assert Path(folder / said["report"]).exists()
    last = max(path.stat().st_mtime_ns for path in jobs_done(folder))
    assert Path(folder / said["answer_file"]).stat().st_mtime_ns > last
    from sweeps.folder import RunFolder
    from sweeps.mirror_records import read_source

    keys = {point.key for child in read_source(RunFolder(folder / "out"), 99).children for point in child.points}
    assert {"final_train_lambda_1", "swa4_train_trace", "barrier_test_error"} <= keys


def test_status_is_done_and_resume_repeats_nothing(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, said = whole
    status = json.loads(finish(folder, "status", "out", "--json").stdout)
    assert (status["done"], status["probe_jobs"]) == (True, said["probes"]["jobs"])
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "probes").iterdir()}
    again = finish(folder, "resume", "out", "--json")
    assert json.loads(again.stdout)["probes"]["measured"] == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "out" / "probes").iterdir()} == before


def test_what_was_interrupted_comes_out_the_same(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    write_sweep(tmp_path)
    process = subprocess.Popen(
        command("run", "probed.yaml", "--out", "out"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not jobs_done(tmp_path):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert "lratlas resume out" in said.splitlines()[-1]
    done = {path.name: path.stat().st_mtime_ns for path in jobs_done(tmp_path)}
    assert 0 < len(done) < len(jobs_done(whole[0]))
    status = json.loads(finish(tmp_path, "status", "out", "--json").stdout)
    assert (status["done"], status["probe_jobs_done"]) == (False, len(done))
    again = finish(tmp_path, "resume", "out", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["probes"]["measured"] == len(jobs_done(whole[0])) - len(done)
    kept = {path.name: path.stat().st_mtime_ns for path in jobs_done(tmp_path)}
    assert {name: kept[name] for name in done} == done
    pd.testing.assert_frame_equal(measured(tmp_path), measured(whole[0]), check_exact=True)
