"""The benchmarks measure what they say, and their own checks can fail."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import _gpu_bits  # noqa: E402
import _gpu_nets  # noqa: E402
import _gpu_table  # noqa: E402
import _ordinary_worker  # noqa: E402
import convnet  # noqa: E402
import gpu  # noqa: E402
from _ordinary_nets import NETS as JOBS  # noqa: E402

from trainables.executors.base import ExecutorName  # noqa: E402
from trainables.executors.modules import LoopExecutor  # noqa: E402

ABSENT = (
    "ray",
    "optuna",
    "mlflow",
    "pydantic",
    "typer",
    "rich",
    "duckdb",
    "pandas",
    "pyarrow",
    "sklearn",
    "torchvision",
)


@pytest.fixture
def bare_node(tmp_path: Path) -> dict[str, str]:
    """The environment of a node on which only torch, numpy and safetensors are installed."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nABSENT = {ABSENT!r}\n"
        "class Without:\n"
        "    def __init__(self, finder):\n"
        "        self.finder = finder\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return None if name.partition('.')[0] in ABSENT else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
    )
    return os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.slow
def test_gpu_benchmark_runs_on_a_bare_node_and_owns_up_without_a_gpu(tmp_path: Path, bare_node: dict[str, str]) -> None:
    for name in ("ray", "pydantic"):
        done = subprocess.run([sys.executable, "-c", f"import {name}"], env=bare_node, capture_output=True, check=False)
        assert done.returncode != 0, f"the test's own blocker lets {name} through"
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--only", "ceilings,optimiser,gather,convnet_w8"]
    done = subprocess.run(
        [*command, "--seconds-per-case", "0.01", "--out", str(out)],
        env=bare_node,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing about a GPU was measured") == 2  # at the start and under the table
    found = json.loads(out.read_text())
    assert found["on_gpu"] is False
    assert found["machine"]["gpu"] is None
    errors = {case: record["error"] for case, record in found["cases"].items() if "error" in record}
    assert not errors
    ways = {case: record["result"] for case, record in found["cases"].items() if case.startswith("convnet_w8:")}
    bits = ways.pop("convnet_w8:bits:branches")
    assert [case.split(":")[1] for case in ways] == ["eager", "loop", "graph", "branches"]
    for way in ways.values():
        assert len(way["ms_per_step"]["all"]) >= 3
        assert way["members_alive"] == way["rows"]
        assert way["members_per_hour"] is None  # of a toy network: no such number
    assert {check: bits[check] for check in _gpu_bits.CHECKS} == dict.fromkeys(_gpu_bits.CHECKS, True)
    assert found["cases"]["optimiser"]["result"]["bitwise"] is True


PRETENDER = """
import json, sys, time
def say(**line): print("@@ " + json.dumps(line), flush=True)
for case in sys.argv[3:]:
    say(begin=case)
    print("noise of a library")
    if case == "dies": sys.exit("no more memory")
    if case == "hangs": time.sleep(60)
    if case == "breaks":
        say(end=case, error="CUDA error: unspecified")
        sys.exit(3)
    say(end=case, result={"case": case})
"""


def test_a_case_that_dies_hangs_or_breaks_the_device_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text(PRETENDER)
    monkeypatch.setattr(gpu, "CHILD", child)
    groups = [["first", "dies", "second", "breaks", "third"], ["hangs", "last"]]
    found = dict(gpu.measured(groups, "cuda", 1.0, limit=2.0, deadline=time.monotonic() + 30))
    assert list(found) == [case for group in groups for case in group]
    good = {case for case, record in found.items() if "result" in record}
    assert good == {"first", "second", "third", "last"}
    assert "code 1" in found["dies"]["error"]
    assert "no more memory" in found["dies"]["trace"]
    assert found["breaks"]["error"].startswith("CUDA error")
    assert found["hangs"]["error"].startswith("no answer within")
    left = dict(gpu.measured(groups, "cuda", 1.0, limit=2.0, deadline=time.monotonic() - 1))
    assert {record["error"] for record in left.values()} == {"left out: the time was up"}


def test_counted_operations_equal_the_closed_form() -> None:
    nets = {net.name: net for net in _gpu_nets.NETS}
    # ConvNet SI: multiply-adds of each convolution forward; twice that backward, except the input gradient of the first
    width, side, channels, forward, first = 32, 32, 3, 0, 0
    for index, out in enumerate((width, 2 * width, 4 * width, 8 * width)):
        products = side * side * channels * out * 9
        first = first or products
        forward += products
        channels, side = out, side // 2 if index else side
    head = channels * 10
    assert _gpu_nets.cost(nets["convnet_w32"]).flop == 2 * (3 * forward - first + 2 * head)  # the head is frozen
    linear = [40 * 64, 64 * 64, 64 * 64]
    assert _gpu_nets.cost(nets["mlp_w64"]).flop == 2 * (3 * sum(linear) - linear[0] + 2 * 64 * 10)
    assert _gpu_nets.cost(nets["resnet18_w64"]).parameters == 11_173_056


def test_bit_checks_see_a_member_that_feels_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    net = _gpu_nets.TINY[0]
    assert _gpu_bits.company(net, ExecutorName.LOOP, "cpu")["four_of_eight"] is True
    update = LoopExecutor._update

    def leaking(self: LoopExecutor, *args: Any) -> None:
        for gradient in self._gradients:
            gradient += 1e-6 * gradient.mean(0)
        update(self, *args)

    monkeypatch.setattr(LoopExecutor, "_update", leaking)
    found = _gpu_bits.company(net, ExecutorName.LOOP, "cpu")
    assert found["twice"] is True
    assert found["four_of_eight"] is not True
    assert found["nan_neighbour"] is not True


def test_optimiser_check_sees_another_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _gpu_bits.optimiser("cpu")["bitwise"] is True
    monkeypatch.setattr(_gpu_bits, "make_rule", lambda *a: replace(_RULE(*a), nesterov=True))
    found = _gpu_bits.optimiser("cpu")
    assert found["bitwise"] is False
    assert float(found["largest_relative_difference"]) > 1e-3  # type: ignore[arg-type]


_RULE = _gpu_bits.make_rule


def test_table_puts_goals_beside_results() -> None:
    spread = {"median": 2.0, "min": 1.9, "max": 2.1, "all": [1.9, 2.0, 2.1]}
    timed = {
        "rows": 4,
        "ms_per_step": spread,
        "ms_per_step_with_batch_tables": spread,
        "images_per_second": 1e5,
        "members_per_hour": 36.0,
        "flop_per_second": 3.3e14,
        "counted_bytes_per_second": 1e12,
        "peak_bytes_per_member": 5e8,
        "members_alive": 3,
        "note": "",
    }
    ceiling = {"median": 6.6e14, "min": 6.6e14, "max": 6.6e14, "all": []}
    names = ("matmul_bfloat16_flop_per_second", "matmul_float32_flop_per_second", "copy_bytes_per_second")
    result = {
        "on_gpu": True,
        "networks": {
            "resnet18_w64": {"title": "ResNet-18", "dtype": "bfloat16", "goal_members_per_gpu_hour": [26, 34]},
        },
        "cases": {
            "ceilings": {"result": dict.fromkeys(names, ceiling)},
            "resnet18_w64:eager:1": {"result": {**timed, "rows": 1, "members_per_hour": 99.0, "members_alive": 1}},
            "resnet18_w64:branches:4": {"result": timed},
            "resnet18_w64:branches:8": {"error": "OutOfMemoryError: CUDA out of memory"},
            "resnet18_w64:bits:branches": {"result": {"twice": True, "reversed": ["a", "b"], "note": "", "alive": 8}},
        },
    }
    text = "\n".join(_gpu_table.lines(result))
    assert "50.0%" in text  # of the measured matrix product
    assert (
        "goal ResNet-18: 26, aim 34 members per GPU-hour; best 36 (branches 4): reached" in text
    )  # not the eager loop
    assert "CUDA out of memory" in text
    assert "only 3 of 4 members stayed finite" in text
    assert "twice same; reversed DIFFERS in 2 tensors" in text


def test_ways_of_the_convnet_benchmark_train_the_same_networks() -> None:
    case = convnet._Case(4, 8, 8, 3)
    ways = {**case.ways(), "grouped_nchw": case.grouped(False), "grouped_cl": case.grouped(True)}
    block = case.block(0, 2)
    for way in ways.values():
        way.steps(block)
    start = {name: tensor.clone() for name, tensor in case.ours().weights().items()}
    reference = ways["ours"].weights()
    for name in convnet.WEIGHTS:
        moved = (reference[name] - start[name]).norm()
        assert moved > 0
        for way in ways.values():
            assert (way.weights()[name] - reference[name]).norm() < 1e-3 * moved


def test_both_sides_of_the_ordinary_benchmark_train() -> None:
    job = JOBS[1]
    small = replace(job, net=replace(job.net, samples=130, arguments={"width": 4}), members=2)
    _ordinary_worker.ours(small)(3)
    _ordinary_worker.ordinary(small.net, 0)(3)


@pytest.mark.slow
def test_ordinary_benchmark_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "ordinary.json"
    command = [sys.executable, str(BENCHMARKS / "ordinary.py"), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())["networks"]["mlp_digits"]
    assert found["ratio_steps_processor"] > 1
    assert set(found["members_per_hour"]) == {"ordinary", "ours"}
