"""Probes as part of a sweep: planted jobs in place of real ones, each counted, whatever interrupts them."""

import errno
import io
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import small
from rich.console import Console

from analysis.probing.jobs import JobEnd
from analysis.row_files import write_probes
from sweeps.cli import invoke
from sweeps.execute import Result, execute
from sweeps.folder import RunFolder
from sweeps.inprocess import InProcessRunner
from sweeps.outcome import as_json, exit_code, say
from sweeps.plan import Plan
from sweeps.probe_display import ProbeTally
from sweeps.runner import Ending
from sweeps.standing import standing
from trainables.rows import ProbeRow
from trainables.spec import SpecError

TINY: dict[str, Any] = {
    "phases": [{"name": "pretrain", "steps": 10}, {"name": "finetune", "steps": 10, "lr": 0.01}],
    "axes": {"pretrain_lr": {"values": [0.1]}, "tag": {"values": [0]}, "seed": {"range": 1}},
}


@dataclass(frozen=True)
class PlantedJob:
    job_id: str
    seconds: float | None = None


@dataclass
class Planted:
    """Jobs that write one row each, and what else shall happen in which."""

    jobs: list[PlantedJob] = field(default_factory=lambda: [PlantedJob(f"geometry.x-s-{n}") for n in range(5)])
    run: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    faults: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unplanned: str = ""

    def plan(self, directory: Path, spec: object) -> Sequence[PlantedJob]:
        assert small.statuses(directory).get("running", 0) == 0, "training has not ended"
        if self.unplanned:
            raise SpecError([self.unplanned])
        return list(self.jobs)

    def measure(self, directory: Path, job: PlantedJob) -> JobEnd:
        self.run.append(job.job_id)
        self.before.get(job.job_id, lambda: None)()
        row = ProbeRow(
            member_id="m", attempt=1, step=1, probe="p", split="train", group="end", key=job.job_id, value=1.0, n=1
        )
        write_probes(directory / "probes" / f"{job.job_id}.parquet", [row])
        self.finished.append(job.job_id)
        return JobEnd(rows=1, faults=self.faults.get(job.job_id, ()), seconds=0.0)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    found = Planted()
    monkeypatch.setattr("analysis.probing.jobs.plan_jobs", found.plan)
    monkeypatch.setattr("analysis.probing.jobs.run_job", found.measure)
    return found


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Reports take long and are not what is tested: this only notes when one is due."""
    due: list[Result] = []
    monkeypatch.setattr("sweeps.execute.finish", lambda result: due.append(result) or result)
    return due


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[RunFolder, Plan]:
    return small.make(tmp_path, probes={"geometry": {}}, **TINY)


def run(sweep: tuple[RunFolder, Plan], console: Console | None = None) -> Result:
    return execute(*sweep, InProcessRunner(), small.OPTIONS, console=console)


def kept(root: Path) -> dict[str, int]:
    """What training wrote, with times of writing."""
    return {
        str(path): path.stat().st_mtime_ns for name in ("epochs", "checkpoints") for path in (root / name).iterdir()
    }


def test_jobs_run_once_each_after_training_and_before_the_report(
    planted: Planted, reports: list[Result], sweep: tuple[RunFolder, Plan]
) -> None:
    planted.before = {planted.jobs[0].job_id: lambda: pytest.fail("too early") if reports else None}
    result = run(sweep)
    assert planted.run == [job.job_id for job in planted.jobs]
    assert result.ending is Ending.FINISHED
    assert exit_code(result) == 0
    probes = small.table(sweep[0].root, "probes")
    assert set(probes["key"][probes["probe"] == "p"]) == set(planted.run)
    content = json.loads(as_json(result, "again"))["probes"]
    assert content | {"seconds": 0} == {
        "jobs": 5, "left": 0, "measured": 5, "faults": [], "failures": {}, "seconds": 0
    }  # fmt: skip
    assert reports == [result]


def test_a_sweep_that_asks_for_none_has_none(planted: Planted, reports: list[Result], tmp_path: Path) -> None:
    folder, plan = small.make(tmp_path, **TINY)
    result = run((folder, plan))
    assert (planted.run, result.probed, len(reports)) == ([], None, 1)
    assert json.loads(as_json(result, "again"))["probes"] is None
    assert (standing(folder).done, standing(folder).as_json()["probe_jobs"]) == (True, None)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def press_it_twice() -> None:
    press_ctrl_c()
    press_ctrl_c()


@pytest.mark.parametrize(("press", "done"), [(press_ctrl_c, 3), (press_it_twice, 2)])
def test_what_was_interrupted_goes_on_and_repeats_nothing(
    press: Callable[[], None],
    done: int,
    planted: Planted,
    reports: list[Result],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    file = small.write_sweep(tmp_path / "s.yaml", probes={"geometry": {}}, **TINY)
    planted.before = {planted.jobs[2].job_id: press}
    assert invoke("run", [str(file), "--out", str(out), "--runner", "inprocess"]) == 130
    said = capsys.readouterr().out
    assert f"lratlas resume {out} --runner inprocess" in said.splitlines()[-1]
    assert not RunFolder(out).stop_file.exists()
    assert len(planted.run) == 3
    assert len(planted.finished) == done
    assert reports == []
    assert not standing(RunFolder(out)).done
    before, planted.before = kept(out), {}
    assert invoke("resume", [str(out), "--runner", "inprocess"]) == 0
    # No job was finished twice, training was left alone, and the report is made now.
    assert planted.finished == [job.job_id for job in planted.jobs]
    assert kept(out) == before
    assert len(reports) == 1
    assert reports[0].changed
    assert standing(RunFolder(out)).done
    assert invoke("resume", [str(out), "--runner", "inprocess"]) == 0
    assert planted.finished == [job.job_id for job in planted.jobs]
    assert not reports[1].changed


def test_a_job_that_fails_is_told_of_and_tried_again(
    planted: Planted, reports: list[Result], sweep: tuple[RunFolder, Plan]
) -> None:
    def fail() -> None:
        raise ValueError("the weights are odd\nin two lines")

    bad, odd = planted.jobs[1].job_id, planted.jobs[3].job_id
    planted.before = {bad: fail}
    planted.faults = {
        odd: ("curvature: NaN weights", "gradient: NaN weights"),
        planted.jobs[4].job_id: ("curvature: NaN weights",),
    }
    result = run(sweep)
    assert exit_code(result) == 0
    assert result.probed is not None
    assert (result.probed.left, result.probed.measured) == (1, 4)
    assert result.probed.failures == {bad: "ValueError: the weights are odd"}
    assert result.probed.faults == ("curvature: NaN weights", "gradient: NaN weights")
    console = Console(file=io.StringIO(), width=200)
    say(result, "again", console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "probes   4 of 5 jobs done",
        "not all probes could be measured: curvature: NaN weights (and 1 more)",
        f"1 of 5 probe jobs failed and can be tried again by `lratlas resume {sweep[0].root}`",
        f"{bad}: ValueError: the weights are odd",
    ):
        assert words in said
    assert (standing(sweep[0]).done, standing(sweep[0]).probe_jobs_done) == (False, 4)
    planted.before, planted.run = {}, []
    assert run(sweep).probed is not None
    assert planted.run == [bad]
    assert standing(sweep[0]).done


def test_full_disk_is_a_result_and_nothing_is_lost(
    planted: Planted, reports: list[Result], sweep: tuple[RunFolder, Plan]
) -> None:
    def fill() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    planted.before = {planted.jobs[2].job_id: fill}
    result = run(sweep)
    assert (result.ending, exit_code(result), reports) == (Ending.DISK_FULL, 2, [])
    planted.before = {}
    assert run(sweep).ending is Ending.FINISHED
    assert planted.finished == [job.job_id for job in planted.jobs]


def test_nothing_to_measure_is_a_note(planted: Planted, reports: list[Result], sweep: tuple[RunFolder, Plan]) -> None:
    planted.unplanned = "there are no weights"
    result = run(sweep)
    assert exit_code(result) == 0
    assert result.notes == ("no geometry and no features were measured: there are no weights",)
    assert standing(sweep[0]).done


def test_status_tells_of_probes(
    planted: Planted,
    reports: list[Result],
    sweep: tuple[RunFolder, Plan],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = str(sweep[0].root)
    assert invoke("status", [root]) == 0
    assert "not begun" in capsys.readouterr().out
    planted.before = {planted.jobs[3].job_id: press_it_twice}
    assert run(sweep).ending is Ending.INTERRUPTED
    assert invoke("status", [root]) == 0
    said = capsys.readouterr().out
    assert "3 of 5" in said
    assert f"lratlas resume {root}" in said
    assert "time to go" not in said
    assert invoke("status", [root, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["probe_jobs"], content["probe_jobs_done"], content["done"]) == (5, 3, False)


def test_log_counts_jobs_of_earlier_runs_too(
    planted: Planted, reports: list[Result], sweep: tuple[RunFolder, Plan]
) -> None:
    planted.before = {planted.jobs[2].job_id: press_it_twice}
    run(sweep)
    planted.before = {}
    console = Console(file=io.StringIO(), width=40)
    run(sweep, console)
    lines = [line.split(maxsplit=1)[1] for line in console.file.getvalue().splitlines() if "probes" in line]  # type: ignore[attr-defined]
    assert lines == ["probes 2/5", "probes 5/5, about 0 s left"]


def test_live_display_draws_on_a_terminal(
    planted: Planted, reports: list[Result], sweep: tuple[RunFolder, Plan]
) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    run(sweep, console)
    assert "probes 5/5" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("weights", "left"),
    # Three of six jobs have taken 30 s: as much again; with estimates, in their proportion.
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0, "f": 1.0}, 30.0),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 5.0, "e": 10.0, "f": 15.0}, 300.0),
    ],
)
def test_time_left(weights: dict[str, float], left: float) -> None:
    tally = ProbeTally(12, weights, now=100.0)
    assert tally.count(105.0).sentence == "probes 6/12"
    tally.see("b")
    tally.see("a")
    assert tally.count(129.0).sentence == "probes 8/12"  # the first ones load and compile: they foretell nothing
    tally.see("c")
    found = tally.count(130.0)
    assert (found.done, found.jobs, found.elapsed) == (9, 12, 30.0)
    assert found.seconds_left == pytest.approx(left)
    assert found.sentence == f"probes 9/12, about {'30 s' if left == 30 else '5 min'} left"
