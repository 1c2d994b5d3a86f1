"""Wrong input and a failing world: one message, the right exit code, nothing lost, nothing started."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small

from analysis.row_files import write_table
from sweeps.cli import invoke
from sweeps.mirror import MirrorError
from sweeps.trial import is_disk_full


def test_every_fault_of_a_run_is_told_at_once_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = small.write_sweep(tmp_path / "s.yaml", task="user_tasks:absent", train={"batch_size": -1})
    assert invoke("run", [str(sweep), "--runner", "slurm"]) == 2
    said = capsys.readouterr().err
    assert "slurm" in said
    assert "absent" in said
    assert "batch_size" in said
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.yaml"]


def test_gpu_that_is_not_there_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    sweep = small.write_sweep(tmp_path / "s.yaml", run={"gpus_per_pack": 1})
    assert invoke("run", [str(sweep), "--out", str(tmp_path / "out")]) == 2
    assert "GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "nowhere:port", "ray://127.0.0.1:1"])
def test_cluster_that_does_not_answer_is_refused_before_anything_is_written(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = small.write_sweep(tmp_path / "s.yaml")
    assert invoke("run", [str(sweep), "--out", str(tmp_path / "out"), "--address", address]) == 2
    assert address in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def full_after(writes: int) -> Callable[..., None]:
    """A disk with room for so many tables."""
    real, done = write_table, 0

    def write(path: Path, table: Any) -> None:
        nonlocal done
        done += 1
        if done > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, table)

    return write


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep on a disk with room."""
    folder = tmp_path_factory.mktemp("whole")
    sweep = small.write_sweep(folder / "s.yaml")
    assert invoke("run", [str(sweep), "--out", str(folder / "out"), "--runner", "inprocess"]) == 0
    return folder / "out"


# The first table is members.parquet, then come parts.
@pytest.mark.parametrize("room", [0, *(pytest.param(room, marks=pytest.mark.slow) for room in (1, 2, 5))])
def test_full_disk_is_one_message_and_nothing_is_lost(
    room: int, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sweep = tmp_path / "out", small.write_sweep(tmp_path / "s.yaml")
    monkeypatch.setattr("sweeps.execute.finish", lambda result: result)
    with monkeypatch.context() as full:
        disk = full_after(room)
        for module in ("sinks", "members"):
            full.setattr(f"sweeps.{module}.write_table", disk)
        assert invoke("run", [str(sweep), "--out", str(out), "--runner", "inprocess"]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("is full") == 1
    assert f"lratlas resume {out} --runner inprocess" in captured.out
    assert "Traceback" not in captured.out + captured.err
    assert invoke("resume", [str(out), "--runner", "inprocess"]) == 0
    assert small.statuses(out) == {"completed": 16}
    small.assert_same_facts(whole, out)


def test_full_disk_is_recognised_however_it_is_wrapped() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrapped = RuntimeError("could not save")
    wrapped.__cause__ = full
    assert is_disk_full(full)
    assert is_disk_full(wrapped)
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.EACCES, os.strerror(errno.EACCES)))
    assert not is_disk_full(ValueError("32 is not a width"))


@pytest.mark.slow
def test_mirror_that_fails_does_not_fail_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MirrorError("The store is locked.")

    monkeypatch.setattr("sweeps.mirror.mirror", fail)
    out, sweep = tmp_path / "out", small.write_sweep(tmp_path / "s.yaml")
    assert invoke("run", [str(sweep), "--out", str(out), "--runner", "inprocess", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 0
    assert said["answer"]["member_steps"] == 640
    assert Path(said["report"]).exists()
    (note,) = said["notes"]
    assert "The store is locked." in note
    assert f"lratlas mirror {out}" in note
