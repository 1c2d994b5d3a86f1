"""Each check against a machine that has the fault, planted, and one that has not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps import doctor

ESSENTIAL = {"python", "write access", "disk", "torch", "ray"}


def test_quick_checks_pass_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRATLAS_DATA", raising=False)
    for check in (doctor.python(), doctor.write_access(tmp_path), doctor.disk(tmp_path), doctor.data()):
        assert check.ok, check.detail
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    check = doctor.write_access(tmp_path / "nowhere")
    assert not check.ok
    assert check.essential
    assert "--out" in check.detail


@pytest.mark.parametrize(("free", "ok"), [(10**9, False), (10**10, True)])
def test_disk_and_shared_memory_are_measured(
    free: int, ok: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert doctor.disk(tmp_path).ok is ok
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free // 10))
    assert doctor.shared_memory().ok is ok


def test_data_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRATLAS_DATA", str(tmp_path))
    assert doctor.data().ok
    monkeypatch.setenv("LRATLAS_DATA", str(tmp_path / "nowhere"))
    assert not doctor.data().ok


def test_compiler_is_tried_not_only_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    missing = doctor.compiler()
    assert not missing.ok
    assert not missing.essential
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'fatal: no such header' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    found = doctor.compiler()
    assert not found.ok
    assert "fatal: no such header" in found.detail


def test_gpu_of_the_driver_that_torch_does_not_see_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sweeps.resources.gpu_names", lambda: ["H200"])
    assert not doctor.gpu().ok
    monkeypatch.setattr("sweeps.resources.gpu_names", lambda: [])
    assert doctor.gpu().ok


def test_torch_and_torchvision_of_different_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.torch_pair().ok
    monkeypatch.setitem(sys.modules, "torchvision", None)
    apart = doctor.torch_pair()
    assert not apart.ok
    assert "together" in apart.detail


@pytest.mark.slow
@pytest.mark.ray
def test_command_checks_everything_and_ends_with_0(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(done.stdout)
    assert all(set(one) == {"check", "ok", "detail"} for one in found)
    assert ESSENTIAL | {"mlflow", "gpu", "data", "c++ compiler", "shared memory"} == {one["check"] for one in found}
    assert {one["check"]: one["detail"] for one in found if one["check"] in ESSENTIAL and not one["ok"]} == {}
    assert done.returncode == 0


@pytest.mark.slow
def test_cluster_that_is_away_ends_with_2() -> None:
    command = [sys.executable, "-m", "sweeps", "doctor", "--address", "127.0.0.1:9", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    (ray,) = [one for one in json.loads(done.stdout) if one["check"] == "ray"]
    assert "127.0.0.1:9" in ray["detail"]
