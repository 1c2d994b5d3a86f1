"""What every runner must do with probe jobs, whatever it runs them on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import planted_jobs
import pytest
import ray
import small
from planted_jobs import PlantedJob, ran

from analysis.probing.jobs import pending
from sweeps.folder import RunFolder
from sweeps.probe_job import ProbeEnd
from sweeps.ray_session import DRIVER_ENVIRONMENT, connected, environment, own_modules
from sweeps.runner import Ending, Runner, RunOptions, make_runner


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for the module; a runner uses it and leaves it running."""
    with environment(DRIVER_ENVIRONMENT), connected(None, cores=2):
        yield


@pytest.fixture(params=["inprocess", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Runner:
    if request.param == "ray":
        request.getfixturevalue("ray_here")
    monkeypatch.setattr("analysis.probing.jobs.run_job", planted_jobs.measure)
    return make_runner(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return small.make(tmp_path)[0]


def run(
    runner: Runner, folder: RunFolder, jobs: Sequence[PlantedJob], options: RunOptions = small.OPTIONS
) -> tuple[Ending, dict[str, ProbeEnd]]:
    ends: list[ProbeEnd] = []
    ending = runner.measure(jobs, folder, options=options, ended=ends.append)  # type: ignore[arg-type]
    assert len({end.job_id for end in ends}) == len(ends)
    return ending, {end.job_id: end for end in ends}


def parts(folder: RunFolder) -> set[str]:
    return {path.stem for path in folder.probes.glob("*.parquet")}


class TestContract:
    def test_every_job_is_run_once_and_told_of(self, runner: Runner, folder: RunFolder) -> None:
        jobs = [PlantedJob(f"j{n}") for n in range(100)]
        ending, ends = run(runner, folder, [*jobs, PlantedJob("odd", "tell")])
        assert ending is Ending.FINISHED
        assert sorted(ran(folder.root)) == sorted(parts(folder)) == sorted(ends)
        assert len(ends) == 101
        assert {end.ending for end in ends.values()} == {Ending.FINISHED}
        assert {key: end.faults for key, end in ends.items() if end.faults} == {"odd": ("NaN weights",)}
        keys = pd.concat([pd.read_parquet(path) for path in folder.probes.glob("*.parquet")])["key"]
        assert sorted(keys) == sorted(ends)

    def test_an_error_fails_its_job_only(self, runner: Runner, folder: RunFolder) -> None:
        ending, ends = run(runner, folder, [PlantedJob("a"), PlantedJob("b", "fail"), PlantedJob("c")])
        assert ending is Ending.FINISHED
        assert ends["b"] == ProbeEnd(job_id="b", ending=Ending.FAILED, reason="ValueError: odd weights")
        assert parts(folder) == {"a", "c"}
        assert ran(folder.root).count("b") == 1  # such an error comes again however often it is tried

    def test_a_stop_ends_the_run_and_the_next_goes_on(self, runner: Runner, folder: RunFolder) -> None:
        jobs = [PlantedJob("stop", "stop"), *(PlantedJob(f"j{n}") for n in range(200))]
        ending, ends = run(runner, folder, jobs)
        assert ending is Ending.INTERRUPTED
        assert "stop" in ends
        assert set(ends) == parts(folder)
        assert len(ends) < len(jobs)
        folder.stop_file.unlink()
        ending, others = run(runner, folder, pending(folder.root, jobs))  # type: ignore[arg-type]
        assert ending is Ending.FINISHED
        assert sorted([*ends, *others]) == sorted(ran(folder.root)) == sorted(job.job_id for job in jobs)

    def test_nothing_starts_once_a_stop_is_asked(self, runner: Runner, folder: RunFolder) -> None:
        folder.stop_file.touch()
        assert run(runner, folder, [PlantedJob("a")]) == (Ending.INTERRUPTED, {})
        assert ran(folder.root) == []

    def test_full_disk_ends_the_run(self, runner: Runner, folder: RunFolder) -> None:
        jobs = [PlantedJob("a", "fill"), *(PlantedJob(f"j{n}") for n in range(200))]
        ending, ends = run(runner, folder, jobs)
        assert ending is Ending.DISK_FULL
        assert "a" not in ends
        assert len(ends) < 200


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
class TestProcesses:
    """What only processes of their own can do."""

    def test_a_job_whose_process_died_is_run_again_and_one_that_dies_each_time_fails(self, folder: RunFolder) -> None:
        options = RunOptions(max_failures=1)
        jobs = [PlantedJob("calm"), PlantedJob("once", "die once"), PlantedJob("always", "die")]
        ending, ends = run(make_runner("ray"), folder, jobs, options)
        assert ending is Ending.FINISHED
        assert parts(folder) == {"calm", "once"}
        assert [ran(folder.root).count(name) for name in ("calm", "once", "always")] == [1, 2, 2]
        reason = "its worker process died 2 times (out of memory, or killed from outside)"
        assert ends["always"] == ProbeEnd(job_id="always", ending=Ending.FAILED, reason=reason)

    def test_jobs_that_do_not_stop_in_time_are_cut_off(
        self, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeps.ray_probes._GRACE_SECONDS", 0.5)
        ending, ends = run(make_runner("ray"), folder, [PlantedJob("a", "stop waiting"), PlantedJob("b", "wait")])
        assert ending is Ending.INTERRUPTED
        assert set(ends) == parts(folder) == {"a"}

    def test_a_folder_that_workers_do_not_see_is_told(self, folder: RunFolder) -> None:
        folder.manifest.rename(folder.root / "elsewhere")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, "read_manifest", lambda self: {"recipes": {}})
            _, ends = run(make_runner("ray"), folder, [PlantedJob("a")])
        assert "--out must be on a disk that all nodes share" in ends["a"].reason


def test_a_cluster_gets_the_code_that_measures_and_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    monkeypatch.setattr("sweeps.ray_session.check_address", lambda address: None)
    modules = own_modules(["user_tasks:plain", "digits", "user_tasks:slow"])
    assert modules == ["user_tasks"]
    with connected("auto", modules=modules):
        pass
    shipped = [Path(path).name for path in given["runtime_env"]["py_modules"]]
    assert shipped == ["sweeps", "trainables", "analysis", "user_tasks.py"]
