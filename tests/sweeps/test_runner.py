"""What every runner must do, whatever it runs on: one class of tests, run by each of them."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small

from sweeps.folder import RunFolder
from sweeps.inprocess import InProcessRunner
from sweeps.plan import Plan
from sweeps.ray_runner import RayRunner
from sweeps.ray_session import DRIVER_ENVIRONMENT, connected, environment
from sweeps.runner import Ending, Progress, Runner, RunOptions, RunOutcome, make_runner
from sweeps.sinks import members_of
from sweeps.trial import error_file
from trainables.loop import train
from trainables.rows import Status
from trainables.spec import SpecError


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for the module; a runner uses it and leaves it running."""
    with environment(DRIVER_ENVIRONMENT), connected(None, cores=2):
        yield


@pytest.fixture(params=["inprocess", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def runner(request: pytest.FixtureRequest) -> Runner:
    if request.param == "ray":
        request.getfixturevalue("ray_here")
    return make_runner(request.param)


class Seen(list[Progress]):
    """Collects progress."""

    def of(self, pack_id: str) -> list[Progress]:
        return [progress for progress in self if progress.pack_id == pack_id]


def run(
    runner: Runner, folder: RunFolder, plan: Plan, attempt: int = 1, options: RunOptions = small.OPTIONS
) -> tuple[RunOutcome, Seen]:
    seen = Seen()
    outcome = runner.run(plan.packs, folder, attempt=attempt, options=options, progress=seen.append)
    return outcome, seen


def pack_of_tag(plan: Plan, tag: int) -> str:
    return next(pack.pack_id for pack in plan.packs if pack.recipe.task_args["tag"] == tag)


class TestContract:
    def test_rows_are_those_of_the_bare_loop(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path)
        outcome, _ = run(runner, folder, plan)
        assert outcome == RunOutcome(ending=Ending.FINISHED)
        bare: dict[str, list[Any]] = {"epochs": [], "probes": []}
        for pack in plan.packs:
            for report in train(pack, folder=tmp_path / "bare", attempt=1, executor="loop"):
                bare["epochs"] += report.epochs
                bare["probes"] += report.probes
        for name, rows in bare.items():
            found = small.table(folder.root, name)
            columns = [column for column in found.columns if column != "seconds"]
            expected = pd.DataFrame([{column: getattr(row, column) for column in columns} for row in rows])
            expected = expected.sort_values(small.KEYS[name]).reset_index(drop=True)
            pd.testing.assert_frame_equal(found[columns], expected, check_exact=True, check_dtype=False)

    def test_every_member_gets_its_status(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path)
        run(runner, folder, plan)
        assert small.status_files(folder) == {member.member_id: "completed" for member in plan.members}

    def test_progress_rises_to_the_end(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path)
        _, seen = run(runner, folder, plan)
        for pack in plan.packs:
            reports = seen.of(pack.pack_id)
            steps = [report.member_steps for report in reports]
            assert steps == sorted(steps)
            assert steps[-1] == pack.member_steps
            assert [report.done for report in reports].count(True) >= 1
            assert reports[-1].done
            assert reports[-1].statuses == {Status.COMPLETED: len(members_of(pack))}
        lowest = small.table(folder.root, "epochs")["test_error"].min()
        assert min(report.best_error for report in seen if report.best_error is not None) == lowest

    def test_error_in_user_code_fails_its_pack_only(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path, task="user_tasks:faulty")
        outcome, _ = run(runner, folder, plan)
        bad = pack_of_tag(plan, 1)
        assert outcome.ending is Ending.FINISHED
        assert outcome.failures == {bad: "ArithmeticError: the user's own mistake"}
        assert Counter(small.status_files(folder).values()) == {"completed": 8, "failed": 8}
        trace = error_file(folder, bad).read_text()
        assert trace.count("ArithmeticError: the user's own mistake") == 1
        assert "user_tasks.py" in trace
        assert not error_file(folder, pack_of_tag(plan, 0)).exists()
        # Such an error comes again however often it is tried: once is enough.
        assert small.attempts(folder) == [1]

    def test_members_that_ended_before_a_failure_keep_their_status(self, runner: Runner, tmp_path: Path) -> None:
        phases = [{"name": "pretrain", "steps": 20}, {"name": "finetune", "steps": 60, "lr": 0.01}]
        folder, plan = small.make(tmp_path, task="user_tasks:faulty", task_args={"after": 150}, phases=phases)
        run(runner, folder, plan)
        kinds = {
            (member.recipe.task_args["tag"], len(member.phases)): small.status_files(folder)[member.member_id]
            for member in plan.members
        }
        assert kinds == {(0, 1): "completed", (0, 2): "completed", (1, 1): "completed", (1, 2): "failed"}

    def test_stop_file_ends_the_run_and_the_next_goes_on(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path / "whole", task="user_tasks:slow")
        run(runner, folder, plan)
        whole = {name: small.table(folder.root, name) for name in ("epochs", "probes")}
        folder, plan = small.make(tmp_path / "stopped", task="user_tasks:slow")
        timer = threading.Timer(0.1, lambda: stop_when_rows(folder))
        timer.start()
        outcome, _ = run(runner, folder, plan)
        timer.join()
        assert outcome.ending is Ending.INTERRUPTED
        assert len(small.table(folder.root, "epochs")) < len(whole["epochs"])
        folder.stop_file.unlink()
        outcome, _ = run(runner, folder, plan, attempt=2)
        assert outcome.ending is Ending.FINISHED
        assert small.attempts(folder) == [1, 2]
        for name, expected in whole.items():
            found = small.table(folder.root, name).drop(columns=["attempt", "seconds"], errors="ignore")
            same = expected.drop(columns=["attempt", "seconds"], errors="ignore")
            pd.testing.assert_frame_equal(found, same, check_exact=True)

    def test_nothing_starts_once_a_stop_is_asked(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path)
        folder.stop_file.touch()
        outcome, seen = run(runner, folder, plan)
        assert outcome.ending is Ending.INTERRUPTED
        assert seen == []
        assert list(folder.epochs.iterdir()) == []

    def test_finished_packs_are_left_as_they_are(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path)
        run(runner, folder, plan)
        before = {path: path.read_bytes() for path in folder.root.rglob("*.parquet")}
        outcome, seen = run(runner, folder, plan, attempt=2)
        assert outcome.ending is Ending.FINISHED
        assert {path: path.read_bytes() for path in folder.root.rglob("*.parquet")} == before
        assert all(seen.of(pack.pack_id)[-1].done for pack in plan.packs)

    def test_full_disk_ends_the_run_and_fails_nobody(self, runner: Runner, tmp_path: Path) -> None:
        folder, plan = small.make(tmp_path, task="user_tasks:full_disk")
        outcome, _ = run(runner, folder, plan)
        assert outcome.ending is Ending.DISK_FULL
        assert "failed" not in small.status_files(folder).values()


def stop_when_rows(folder: RunFolder) -> None:
    """Ask for a stop as soon as the first part is there."""
    while not list(folder.epochs.glob("*.parquet")):
        time.sleep(0.01)
    folder.stop_file.touch()


@pytest.mark.ray
@pytest.mark.slow
class TestCrashes:
    """What only processes of their own can do: die."""

    def test_pack_whose_process_was_killed_goes_on(self, ray_here: None, tmp_path: Path) -> None:
        args = {"folder": str(tmp_path)}
        folder, plan = small.make(tmp_path / "killed", task="user_tasks:suicidal", task_args=args)
        outcome, _ = run(RayRunner(), folder, plan)
        assert outcome == RunOutcome(ending=Ending.FINISHED)
        assert (tmp_path / "died-1").read_text() == "x"
        epochs = small.table(folder.root, "epochs")
        killed = {member.member_id for member in plan.members if member.recipe.task_args["tag"] == 1}
        # What was saved before the kill is kept, and only the killed pack was started again.
        assert set(epochs["attempt"][epochs["member_id"].isin(killed)]) == {1, 2}
        assert set(epochs["attempt"][~epochs["member_id"].isin(killed)]) == {1}
        # It has died as often as it may: the same sweep now runs in peace, and finds the same.
        calm, plan = small.make(tmp_path / "calm", task="user_tasks:suicidal", task_args=args)
        run(InProcessRunner(), calm, plan)
        for name in ("epochs", "probes"):
            pd.testing.assert_frame_equal(
                *(
                    small.table(one.root, name).drop(columns=["attempt", "seconds"], errors="ignore")
                    for one in (folder, calm)
                ),
                check_exact=True,
            )

    def test_pack_that_dies_each_time_fails(self, ray_here: None, tmp_path: Path) -> None:
        args = {"folder": str(tmp_path), "times": 99}
        folder, plan = small.make(tmp_path, task="user_tasks:suicidal", task_args=args)
        options = RunOptions(executor="loop", save_seconds=0.0, max_failures=1)
        outcome, _ = run(RayRunner(), folder, plan, options=options)
        assert outcome.ending is Ending.FINISHED
        (reason,) = outcome.failures.values()
        assert "worker process died 2 times" in reason
        assert (tmp_path / "died-1").read_text() == "xx"
        assert Counter(small.status_files(folder).values()) == {"completed": 8, "failed": 8}


def test_unknown_runner_and_useless_address_are_told_together() -> None:
    with pytest.raises(SpecError) as caught:
        make_runner("slurm", "somewhere://x")
    assert len(caught.value.faults) == 3
    assert "ray, inprocess" in caught.value.faults[0]
