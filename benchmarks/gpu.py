"""What a GPU does with packs: every executor against the ordinary loop, in members per GPU-hour, and bit tests.

For each network the same steps are taken by the ordinary eager loop (data already on the device), by the `loop`
executor, by one network recorded as a CUDA graph, by K networks side by side in one graph (`branches`) and, where the
model has a batched form, by K networks as one (`stacked`). A member is 200 epochs of 50,000 images. Needs torch, numpy
and safetensors and nothing else; the images are made up. Without a GPU tiny sizes go through the same code, and nothing
about a GPU is measured.

    python benchmarks/gpu.py                       # under 8 minutes; writes benchmarks/results/gpu.json
    python benchmarks/gpu.py --quick               # about 3 minutes: shorter repeats, fewer numbers of networks
    python benchmarks/gpu.py --only resnet18_w64,ceilings
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from _gpu_nets import NETS, TINY, Net, cost
from _gpu_table import lines
from _machine import ROOT, described

CHILD = Path(__file__).resolve().parent / "_gpu_child.py"
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
WITHOUT = "no CUDA device was found: tiny sizes were run on the CPU, and nothing about a GPU was measured"
BITS = {"convnet_w8": ("branches",), "resnet18_w64": ("branches",), "mlp_w64": ("stacked",)}
SECONDS = {"full": 2.0, "quick": 0.8, "tiny": 0.06}

Record = dict[str, Any]


def cases(nets: Sequence[Net], *, quick: bool) -> list[list[str]]:
    """Case names in groups; each group has a process of its own, the most wanted come first."""
    first = ["ceilings", "optimiser", "gather"]
    groups = [first]
    for net in nets:
        ways = net.ways[: 5 if quick else None]
        groups.append([f"{net.name}:{way}:{rows}" for way, rows in ways])
    bits = [f"{net.name}:bits:{executor}" for net in nets for executor in BITS.get(net.name, ())]
    return [*groups, bits]


def _lines_of(stream: IO[str], into: "queue.Queue[str | None]") -> None:
    for line in stream:
        into.put(line)
    into.put(None)


def _one_process(
    wanted: list[str], device: str, seconds: float, limit: float, deadline: float
) -> Iterator[tuple[str, Record]]:
    """Cases measured by one process, until it is done, dies, or a case takes too long."""
    from _gpu_child import GAVE_UP, MARK  # needs safetensors, whose absence was to be said before

    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), device, str(seconds), *wanted],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        assert child.stdout is not None
        arriving: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_lines_of, args=(child.stdout, arriving), daemon=True).start()
        pending, since = list(wanted), time.monotonic()
        try:
            while True:
                until = min(since + limit, deadline)
                try:
                    line = arriving.get(timeout=max(0.1, until - time.monotonic()))
                except queue.Empty:
                    yield pending[0], {"error": f"no answer within {time.monotonic() - since:.0f} s"}
                    return
                if line is None:
                    child.wait()
                    if pending and child.returncode != GAVE_UP:
                        errors.seek(0)
                        tail = errors.read()[-2000:]
                        yield pending[0], {"error": f"its process ended with code {child.returncode}", "trace": tail}
                    return
                if not line.startswith(MARK):
                    continue
                said = json.loads(line.removeprefix(MARK))
                since = time.monotonic()
                if "end" in said:
                    pending.remove(said["end"])
                    yield said.pop("end"), said
        finally:
            child.kill()
            child.wait()


def measured(
    groups: list[list[str]], device: str, seconds: float, limit: float, deadline: float
) -> Iterator[tuple[str, Record]]:
    """Every case, whatever becomes of the processes that measure them.

    Args:
        groups: case names; each group starts in a fresh process.
        device: `cuda` or `cpu`.
        seconds: to spend on what is timed, in each case.
        limit: seconds after which a case is given up.
        deadline: on the monotonic clock; what is left then is left out.

    Yields:
        A case and its result or error.
    """
    for group in groups:
        left = list(group)
        while left:
            if time.monotonic() >= deadline:
                yield from ((case, {"error": "left out: the time was up"}) for case in left)
                break
            for case, record in _one_process(left, device, seconds, limit, deadline):
                left.remove(case)
                yield case, record


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-per-case", type=float, help="spent on the timed steps of each case (default 2)")
    parser.add_argument("--limit", type=float, default=90, help="seconds after which a case is given up")
    parser.add_argument("--minutes", type=float, default=7.5, help="after which no further case is begun")
    parser.add_argument("--quick", action="store_true", help="shorter repeats and fewer cases")
    parser.add_argument("--only", help="networks, or ceilings, optimiser, gather, bits; with commas between")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes; with a GPU {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    try:
        import safetensors  # noqa: F401 - looked for here, so that its absence is said once
    except ImportError:
        parser.exit(2, "safetensors is missing and the training code saves with it; pip install safetensors\n")
    on_gpu = torch.cuda.is_available()
    mode = "tiny" if not on_gpu else "quick" if arguments.quick else "full"
    if not on_gpu:
        print(WITHOUT, flush=True)
    nets = NETS if on_gpu else TINY
    groups = cases(nets, quick=mode != "full")
    if arguments.only:
        keep = set(arguments.only.split(","))
        groups = [[case for case in group if keep & _names(case)] for group in groups]
    if not on_gpu:
        groups = [[case for group in groups for case in group]]  # a process for each would mostly import torch
    begun = time.monotonic()
    seconds = SECONDS[mode] if arguments.seconds_per_case is None else arguments.seconds_per_case
    before, found = described(), dict[str, Record]()
    groups = [group for group in groups if group]
    for case, record in measured(
        groups, "cuda" if on_gpu else "cpu", seconds, arguments.limit, begun + 60 * arguments.minutes
    ):
        found[case] = record
        print(f"{time.monotonic() - begun:6.1f} s  {case:28s} {record.get('error', 'done')}", flush=True)
    result: Record = {
        "what": "training steps of packs on a GPU" if on_gpu else WITHOUT,
        "on_gpu": on_gpu,
        "mode": mode,
        "images_of_a_member": 10_000_000,
        "seconds_per_case": seconds,
        "seconds_in_all": round(time.monotonic() - begun, 1),
        "machine": before,
        "gpu_after": described()["gpu"],
        "networks": {
            net.name: {
                "title": net.title,
                "batch": net.batch,
                "dtype": net.dtype,
                "goal_members_per_gpu_hour": net.goal,
                "cost": vars(cost(net)),
            }
            for net in nets
        },
        "cases": found,
    }
    print("\n".join(lines(result)))
    out = arguments.out or (RESULTS if on_gpu else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written to {out}")
    sys.exit(0 if any("result" in record for record in found.values()) else 1)


def _names(case: str) -> set[str]:
    """What `--only` may call a case."""
    name, *rest = case.split(":")
    return {name, *(["bits"] if rest[:1] == ["bits"] else [])}


if __name__ == "__main__":
    main()
