"""Memory of a pack at work: what `lratlas plan` says against what a process is then seen to take.

Each case is planned by the code of `lratlas plan` and trained by the code of a sweep, through both phases, with states
saved, averages, rows and checkpoints, in a fresh process. On a CPU the measured figure is the growth of that process'
peak resident memory over what it held after a small warm-up pack of the same executor (libraries loaded, compiler
warm); on a GPU it is the peak that torch's allocator handed out. Both figures are divided by the rows of the pack.
Where a process' heap happens to have holes moves the peak of small packs by a fifth: they are measured several times,
and the median counts.

    python benchmarks/memory.py              # about 20 minutes
    python benchmarks/memory.py --only mlp   # cases whose names hold a word
"""

import argparse
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "memory.json"
MARK = "measured: "


@dataclass(frozen=True)
class Case:
    """One pack.

    Attributes:
        name: of network and data.
        rows: trained at once.
        task: of the sweep.
        model: of the sweep.
        batch_size: samples per step.
        momentum: of SGD.
        repeats: processes; more for small packs, whose growth is not large beside the whims of allocator and kernel.
    """

    name: str
    rows: int
    task: dict[str, Any]
    model: dict[str, Any]
    batch_size: int
    momentum: float = 0.0
    repeats: int = 1


def _images(size: int, **more: Any) -> dict[str, Any]:
    return {"name": "cifar10", "size": size, "train_size": 512, "valid_size": 0, "test_size": 512, **more}


CASES = [
    *(
        Case(
            "mlp w64, digits",
            rows,
            {"name": "digits", "train_size": 300, "test_size": 1200},
            {"name": "mlp_si", "width": 64, "depth": 3},
            16,
            repeats=repeats,
        )
        for rows, repeats in ((64, 5), (256, 5), (1024, 1))
    ),
    *(
        Case("convnet_si w8, 16x16", rows, _images(16), {"name": "convnet_si", "width": 8}, 32, repeats=5)
        for rows in (2, 8)
    ),
    *(
        Case(
            f"convnet_si w32, 32x32, {batch_size} a batch",
            rows,
            _images(0, augment="crop_flip"),
            {"name": "convnet_si", "width": 32},
            batch_size,
            repeats=repeats,
        )
        for batch_size, rows, repeats in ((32, 2, 1), (128, 2, 3), (128, 8, 1))
    ),
    *(
        Case(
            "resnet18_si w32, 32x32",
            rows,
            _images(0, train_size=256, test_size=256),
            {"name": "resnet18_si", "width": 32},
            64,
            0.9,
        )
        for rows in (2, 8)
    ),
]


def mapping(case: Case, *, gpu: bool) -> dict[str, Any]:
    """A sweep of two phases whose pre-trained members fill one pack."""
    return {
        "name": "memory",
        "question": "How much memory does it take?",
        "source": "benchmarks/memory.py",
        "task": case.task,
        "model": case.model,
        "train": {"batch_size": case.batch_size, "sphere_radius": 1.0, "momentum": case.momentum},
        "phases": [
            {"name": "pretrain", "steps": 4, "lr": 1e-3, "swa": {"every": 1, "windows": [2]}},
            {"name": "finetune", "steps": 2, "lr": 1e-4},
        ],
        "axes": {"seed": {"range": case.rows}, "pretrain_lr": {"values": [1e-3]}},
        "measure": {"report_every": 2},
        "run": {"members_per_pack": case.rows, "gpus_per_pack": int(gpu)},
    }


def predicted(case: Case, *, gpu: bool) -> tuple[int, Any]:
    """Bytes per member as the plan has them, and the pack."""
    from sweeps.plan import plan
    from sweeps.resources import this_machine
    from sweeps.sweep import sweep_from_mapping

    content = mapping(case, gpu=gpu)
    del content["phases"][0]["lr"]
    made = plan(sweep_from_mapping(content), **asdict(this_machine()))
    (pack,) = made.packs
    return made.estimated_memory_bytes_per_member, pack


def status(key: str) -> int:
    """A line of this process' status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _train(pack: Any, device: str) -> None:
    from trainables.loop import train

    with tempfile.TemporaryDirectory() as place:
        for _ in train(pack, folder=Path(place), attempt=1, device=device, save_seconds=0.0):
            pass


def _forget() -> None:
    """Give back what the warm-up held: data, graphs, and the memory that the allocator keeps."""
    from trainables import arena
    from trainables.build import build_task
    from trainables.images import decode

    arena._held.clear()
    build_task.cache_clear()
    decode._store.cache_clear()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def child(index: int) -> None:
    """Measure one case in this process."""
    import torch

    case, gpu = CASES[index], torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    said, pack = predicted(case, gpu=gpu)
    convolutional = case.task["name"] == "cifar10"
    small = {**case.task, "train_size": 64, "test_size": 64} if convolutional else case.task
    width = 8 if convolutional else case.model["width"]
    warm = Case("warm", 2 if convolutional else case.rows, small, {**case.model, "width": width}, 16, case.momentum)
    _train(predicted(warm, gpu=gpu)[1], device)
    _forget()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _train(pack, device)
        peak = torch.cuda.max_memory_allocated() - before
        extra = {"reserved_bytes_per_member": torch.cuda.max_memory_reserved() / case.rows}
    else:
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        _train(pack, device)
        peak = status("VmHWM") - before
        extra = {"idle_process_bytes": before}
    print(MARK + json.dumps({"predicted": said, "measured": peak / case.rows, "device": device, **extra}))


def main() -> None:
    """Measure every case in a process of its own, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--repeats", type=int, help="processes for each case, in place of its own number")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result goes")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child)
        return
    from sweeps.provenance import device, git_commit, versions

    rows = []
    for index, case in enumerate(CASES):
        if arguments.only not in case.name:
            continue
        found = [_measure(index) for _ in range(arguments.repeats or case.repeats)]
        median = statistics.median(each["measured"] for each in found)
        row = {"case": case.name, "rows": case.rows, **found[0], "measured": median}
        row["all_measured"] = [each["measured"] for each in found]
        row["predicted_over_measured"] = row["predicted"] / median
        rows.append(row)
        print(
            f"{case.name:36} {case.rows:4} rows on {row['device']:4}  predicted {row['predicted'] / 1e6:8.2f} MB a row"
            f"  measured {median / 1e6:8.2f} MB  ratio {row['predicted_over_measured']:.2f}",
            flush=True,
        )
    result = {
        "what": "peak bytes of a pack at work beyond an idle process, divided by its rows",
        "cases": rows,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "device": device(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def _measure(index: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(index)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise SystemExit(f"{CASES[index].name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return found


if __name__ == "__main__":
    main()
