"""What plans say about networks that are measured, and their memory against what processes take."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small

from sweeps.plan import Plan, plan
from sweeps.sweep import load_sweep, sweep_from_mapping

GB = 10**9


def planned(name: str, *changes: str, gpus: int = 0, gpu_memory: int = 0) -> Plan:
    made = load_sweep(name, changes)
    return plan(made, cores=2, gpus=gpus, memory_bytes=16 * GB, gpu_memory_bytes=gpu_memory)


def own(task: str = "user_tasks:plain", **run: object) -> Plan:
    content = small.content(task=task)
    content["run"] |= run
    return plan(sweep_from_mapping(content), cores=2, memory_bytes=16 * GB)


def test_own_tasks_are_measured() -> None:
    made = own()
    assert not any("guess" in note for note in made.notes)
    # 8 pre-trained networks of 3 x 2 weights and 2 biases, each with one average, and as many fine-tuned ones
    assert made.kept_weights_bytes == (8 * 2 + 8) * 4 * 8
    assert made.estimated_seconds < 60


def test_own_code_that_fails_is_said_and_guessed() -> None:
    made = own("user_tasks:full_disk")
    (note,) = [note for note in made.notes if "guess" in note]
    assert "OSError" in note
    assert "No space left" in note


def test_memory_follows_network_batch_and_data() -> None:
    args = ("task.train_size=200", "task.valid_size=100", "task.test_size=200", "run.members_per_pack=2")
    base = planned("band-cifar10-small", *args)
    for change in ("model.width=64", "train.batch_size=200", "task.size=32", "task.test_size=1000"):
        assert (
            planned("band-cifar10-small", *args, change).estimated_memory_bytes_per_member
            > base.estimated_memory_bytes_per_member
        ), change
    assert base.estimated_memory_bytes > base.estimated_memory_bytes_per_member
    assert planned("band-cifar10-small", *args, "model.width=64").estimated_seconds > base.estimated_seconds


def test_gpu_presets_are_sane() -> None:
    made = planned("band-cifar10-resnet18", gpus=1, gpu_memory=141 * GB)
    trunks = sum(member.parent_id is None for member in made.members)
    one = 4 * (2_792_800 + 2 * 2184 + 20 * 1)  # weights; mean and variance of every normalised channel; counters
    solutions = made.kept_weights_bytes / one
    assert len(made.members) + trunks <= round(solutions, 3) <= len(made.members) + 3 * trunks
    assert 3600 < made.estimated_seconds < 86_400 * 3
    small_gpu = planned("band-cifar10-resnet18", gpus=1, gpu_memory=8 * GB)
    assert max(pack.width for pack in small_gpu.packs) < max(pack.width for pack in made.packs)
    for some in (made, small_gpu):
        width = max(pack.width for pack in some.packs)
        assert some.estimated_memory_bytes_per_member * width < (141 if some is made else 8) * GB


def test_a_budget_thins_a_gpu_preset() -> None:
    whole = planned("band-cifar10-resnet18", "run.checkpoint_budget=null")
    thin = planned("band-cifar10-resnet18", "run.checkpoint_budget=500MB")
    assert thin.kept_weights_bytes <= 5 * 10**8 < whole.kept_weights_bytes
    assert thin.estimated_disk_bytes < whole.estimated_disk_bytes
    assert any("checkpoint_budget is 500 MB" in note for note in thin.notes)
    assert [pack.pack_id for pack in thin.packs] == [pack.pack_id for pack in whole.packs]


# Packs large enough that what a process' heap happens to leave in holes (tens of MB, another number in every process)
# is small beside them. The benchmark has smaller ones too, as medians.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("mlp w64, digits", 1024), ("convnet_si w32, 32x32, 32 a batch", 2)])
def test_memory_is_foretold_within_a_fifth(name: str, rows: int, root: Path, cifar10_folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("peak memory is read from /proc, which only Linux has")
    script = root / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("memory_benchmark", script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (index,) = (i for i, case in enumerate(module.CASES) if (case.name, case.rows) == (name, rows))
    done = subprocess.run(
        [sys.executable, str(script), "--child", str(index)],
        env={**os.environ, "LRATLAS_DATA": str(cifar10_folder), "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(module.MARK)]
    found = json.loads(line.removeprefix(module.MARK))
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.2)
