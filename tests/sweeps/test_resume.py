"""Interruptions of every kind, by real signals to real processes: what comes out after `resume` is what was due."""

import random
import shutil
import signal
import time
from pathlib import Path

import commands
import pandas as pd
import pytest
import small

from sweeps.cli import invoke
from sweeps.folder import RunFolder

SEED = 20240731
RUNNERS = ["inprocess", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])]


def sweep_file(folder: Path, seconds: float = 0.003) -> Path:
    """Two packs of a few slow seconds each; states are saved at every phase's end."""
    folder.mkdir(parents=True, exist_ok=True)
    phases = [{"name": "pretrain", "steps": 20}] + [{"name": name, "steps": 20, "lr": 0.01} for name in "abc"]
    return small.write_sweep(
        folder / "slow.yaml", task="user_tasks:slow", task_args={"seconds": seconds}, phases=phases
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Tables of the same sweep, run without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    done = commands.finish("run", sweep_file(folder), "--out", folder / "out", "--runner", "inprocess", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return small.facts(folder / "out")


def run_process(out: Path, sweep: Path, runner: str) -> tuple[object, ...]:
    return ("run", sweep, "--out", out, "--runner", runner)


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_ctrl_c_saves_says_how_to_go_on_and_leaves_no_process(
    runner: str, tmp_path: Path, whole: dict[str, pd.DataFrame]
) -> None:
    out = tmp_path / "out"
    with commands.started(*run_process(out, sweep_file(tmp_path), runner)) as process:
        commands.wait_for(lambda: attempts_begun(out), process=process)
        time.sleep(1)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert time.monotonic() - pressed < 30
        commands.wait_for(lambda: not commands.session(process.pid), seconds=5)
    assert process.returncode == 130, output
    resume = f"lratlas resume {out}" + ("" if runner == "ray" else " --runner inprocess")
    assert resume in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not RunFolder(out).stop_file.exists()
    assert small.statuses(out).get("running", 0) > 0
    done = commands.finish("resume", out, "--runner", runner)
    assert done.returncode == 0, done.stdout + done.stderr
    small.assert_same_facts(whole, out)


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_kill_at_any_moment_loses_and_doubles_nothing(
    runner: str, tmp_path: Path, whole: dict[str, pd.DataFrame]
) -> None:
    draw = random.Random(SEED)
    out, sweep = tmp_path / "out", sweep_file(tmp_path)
    arguments = run_process(out, sweep, runner)
    for after_a_part in (False, True, True):
        begun, parts = attempts_begun(out), parts_written(out)
        with commands.started(*arguments) as process:
            # Most of the time passes before training begins: only from there on the moment is drawn.
            commands.wait_for(lambda begun=begun: attempts_begun(out) > begun, process=process)
            if after_a_part:
                commands.wait_for(lambda parts=parts: parts_written(out) > parts, process=process)
            time.sleep(draw.uniform(0.0, 0.5))
            commands.kill_session(process.pid)
        arguments = ("resume", out, "--runner", runner)
    done = commands.finish(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    small.assert_same_facts(whole, out)
    # The kills did strike in the middle: rows of several attempts stand side by side.
    assert len(small.attempts(RunFolder(out))) >= 3


def parts_written(out: Path) -> int:
    return len(list((out / "epochs").glob("*.parquet")))


def attempts_begun(out: Path) -> int:
    """How often a pack has been started, all packs together."""
    return sum(int(path.read_text()) for path in (out / "state").glob("*.attempt.json"))


@pytest.mark.slow
def test_resume_of_a_finished_sweep_rebuilds_only_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    sweep = small.write_sweep(tmp_path / "small.yaml")
    assert invoke("run", [str(sweep), "--out", str(out), "--runner", "inprocess"]) == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("epochs/*")}
    resume = ["--runner", "inprocess", str(out)]
    assert invoke("resume", resume) == 0
    assert "had finished before" in capsys.readouterr().out
    shutil.rmtree(out / "report")
    assert invoke("resume", resume) == 0
    assert (out / "report" / "index.html").exists()
    assert {path: path.stat().st_mtime_ns for path in out.glob("epochs/*")} == before


@pytest.mark.slow
def test_failed_members_are_listed_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, mended = tmp_path / "out", tmp_path / "mended"
    sweep = small.write_sweep(tmp_path / "s.yaml", task="user_tasks:mendable", task_args={"mended": str(mended)})
    assert invoke("run", [str(sweep), "--out", str(out), "--runner", "inprocess"]) == 3
    said = capsys.readouterr().out
    assert said.count("ArithmeticError: the user's own mistake") == 1
    assert f"lratlas resume {out}" in said
    assert small.statuses(out) == {"completed": 8, "failed": 8}
    reasons = small.table(out, "members").query("status == 'failed'")["status_reason"]
    assert set(reasons) == {"ArithmeticError: the user's own mistake"}
    mended.touch()
    assert invoke("resume", [str(out), "--runner", "inprocess"]) == 0
    assert small.statuses(out) == {"completed": 16}
    # The half that had finished was left alone.
    assert small.table(out, "epochs").groupby("attempt")["member_id"].nunique().to_dict() == {1: 8, 2: 8}


@pytest.mark.slow
def test_two_processes_cannot_run_one_sweep(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with commands.started(*run_process(out, sweep_file(tmp_path, seconds=0.01), "inprocess")) as process:
        commands.wait_for(lambda: attempts_begun(out), process=process)
        second = commands.finish("resume", out, "--runner", "inprocess")
    assert second.returncode == 2
    assert "one process at a time" in second.stderr
    assert "Traceback" not in second.stderr
