"""Members per hour of this machine: the ordinary way of a sweep against packs.

The ordinary way is one trial per process: eager loop, `DataLoader` with torchvision's transforms and no workers,
`torch.optim.SGD`; as many trials at once as cores. Ours is `trainables.loop.train` on a pack, rows, final quality and
checkpoints included; as many processes at once as cores. The processes of both sides are started once and take turns.
Each works on one thread, so on a machine that does nothing else its time is its processor time; that is what rates are
made of, because it means something on a busy machine too. Wall times are kept beside it. Start-up (imports, data, first
step; compilation on our side) is measured apart: the ordinary way pays it for every member, ours once per process. So
is what a stretch of one step costs: the evaluation at the end, and rows and checkpoints on our side.
Images are made up: no step's time depends on what they show. Networks of which a whole member would take hours are
measured for a few steps, and the rest is multiplication.

    python benchmarks/ordinary.py          # about 6 minutes; writes benchmarks/results/ordinary.json
    python benchmarks/ordinary.py --quick  # half a minute: the MLP, two short turns; writes only to --out
    python benchmarks/ordinary.py --ray    # also the start-up of a trial under Ray Tune
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _machine import ROOT, described
from _ordinary_nets import NETS, Job

WORKER = Path(__file__).resolve().parent / "_ordinary_worker.py"
RESULTS = ROOT / "benchmarks" / "results" / "ordinary.json"
SIDES = ("ordinary", "ours")
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}


class Crew:
    """As many processes of one side as there are cores."""

    def __init__(self, side: str, job: Job, processes: int) -> None:
        environment = os.environ | THREADS | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(WORKER), side, job.net.name]
        self.workers = [
            subprocess.Popen(
                [*command, "--seed", str(seed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for seed in range(processes)
        ]
        self.start_up = [answer["start_up_seconds"] for answer in self._answers()]

    def _answers(self) -> list[dict[str, float]]:
        found = []
        for worker in self.workers:
            assert worker.stdout is not None
            line = worker.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(map(str, worker.args))} ended with code {worker.wait()}")  # type: ignore[arg-type]
            found.append(json.loads(line))
        return found

    def turn(self, steps: int) -> list[dict[str, float]]:
        """Let every process train at the same time."""
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{steps}\n")
            worker.stdin.flush()
        return self._answers()

    def dismiss(self) -> None:
        """End the processes."""
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()


def _per_member_step(answers: Sequence[dict[str, float]], members: int, clock: str) -> float:
    """Seconds of one process for one step of one member, on average over the processes."""
    return statistics.mean(answer[clock] / answer["steps"] for answer in answers) / members


def compare(job: Job, turns: int, processes: int, divide: int = 1) -> dict[str, Any]:
    """Let both sides take turns with one network.

    Args:
        job: the network.
        turns: of each side.
        processes: of each side.
        divide: cut the turns by this factor.

    Returns:
        Seconds per member-step, start-up, members per hour, and the ratios of both sides.
    """
    members = {"ordinary": 1, "ours": job.members}
    steps = {"ordinary": max(1, job.steps // divide), "ours": max(1, job.our_steps // divide)}
    crews = {side: Crew(side, job, processes) for side in SIDES}
    wall: dict[str, list[float]] = {side: [] for side in SIDES}
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    ends: dict[str, list[float]] = {side: [] for side in SIDES}
    try:
        for _ in range(turns):
            for side, crew in crews.items():
                answers = crew.turn(steps[side])
                wall[side].append(_per_member_step(answers, members[side], "wall_seconds"))
                cpu[side].append(_per_member_step(answers, members[side], "processor_seconds"))
                ends[side].append(statistics.mean(answer["end_seconds"] for answer in answers) / members[side])
    finally:
        for crew in crews.values():
            crew.dismiss()
    start = {side: statistics.mean(crew.start_up) for side, crew in crews.items()}
    step = {side: statistics.median(cpu[side]) for side in SIDES}
    end = {side: statistics.median(ends[side]) for side in SIDES}
    whole = {side: job.whole * step[side] + end[side] for side in SIDES}
    whole["ordinary"] += start["ordinary"]
    rate = {side: 3600 * processes / whole[side] for side in SIDES}
    return {
        "title": job.net.title,
        "processes": processes,
        "members_per_pack": job.members,
        "executor": job.executor,
        "steps_of_a_member": job.whole,
        "steps_measured_in_a_turn": steps,
        "extrapolated": job.whole > job.steps,
        "wall_ms_per_member_step": {side: [round(1e3 * v, 5) for v in values] for side, values in wall.items()},
        "processor_ms_per_member_step": {side: [round(1e3 * v, 5) for v in values] for side, values in cpu.items()},
        "start_up_processor_seconds": {side: round(seconds, 2) for side, seconds in start.items()},
        "end_processor_seconds_per_member": {side: round(seconds, 3) for side, seconds in end.items()},
        "members_per_hour": {side: round(value, 4) for side, value in rate.items()},
        "ratio_members_per_hour": round(rate["ours"] / rate["ordinary"], 3),
        "ratio_steps_wall": round(
            statistics.median(a / b for a, b in zip(wall["ordinary"], wall["ours"], strict=True)), 3
        ),
        "ratio_steps_processor": round(
            statistics.median(a / b for a, b in zip(cpu["ordinary"], cpu["ours"], strict=True)), 3
        ),
    }


def ray_start_up(trials: int, processes: int) -> dict[str, float]:
    """Seconds that a trial of Ray Tune takes before and after its training: process, imports, bookkeeping.

    Args:
        trials: how many, each a few steps of the MLP.
        processes: at once.

    Returns:
        Wall seconds for each trial, and those of starting Ray itself.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    import ray
    from ray import tune

    def trial(config: dict[str, int]) -> None:
        import torch
        from _ordinary_worker import ordinary

        torch.set_num_threads(1)
        ordinary(NETS[0].net, config["seed"])(10)
        tune.report({"done": 1})

    begun = time.perf_counter()
    ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    started = time.perf_counter()
    resources = tune.with_resources(trial, {"cpu": 1})
    with tempfile.TemporaryDirectory() as place:
        tuner = tune.Tuner(
            resources,
            param_space={"seed": tune.grid_search(list(range(trials)))},
            run_config=tune.RunConfig(storage_path=place, verbose=0),
        )
        results = tuner.fit()
        ended = time.perf_counter()
    ray.shutdown()
    if results.errors:
        raise RuntimeError(f"{len(results.errors)} trials failed: {results.errors[0]}")
    return {
        "trials": trials,
        "seconds_of_starting_ray": round(started - begun, 2),
        "seconds_per_trial_and_process": round((ended - started) * processes / trials, 2),
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="of each side, for each network")
    parser.add_argument("--quick", action="store_true", help="only the MLP, two turns; writes only to --out")
    parser.add_argument("--only", help="networks, with commas between")
    parser.add_argument("--ray", action="store_true", help="also time the start-up of trials under Ray Tune")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes ({RESULTS.relative_to(ROOT)})")
    arguments = parser.parse_args()
    processes = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    only = arguments.only.split(",") if arguments.only else [job.net.name for job in NETS]
    jobs = [job for job in NETS if job.net.name in only][: 1 if arguments.quick else None]
    machine, networks = described(), {}
    for job in jobs:
        turns, divide = (2, 20) if arguments.quick else (arguments.turns, 1)
        found = compare(job, turns, processes, divide)
        networks[job.net.name] = found
        rate, start = found["members_per_hour"], found["start_up_processor_seconds"]
        print(
            f"{job.net.title}: {rate['ordinary']:.4g} members per hour ordinary, {rate['ours']:.4g} ours: "
            f"{found['ratio_members_per_hour']:.3g}x (steps alone: {found['ratio_steps_processor']:.3g}x, by wall time "
            f"{found['ratio_steps_wall']:.3g}x); start-up {start['ordinary']:.1f} s a member, "
            f"{start['ours']:.1f} s a process",
            flush=True,
        )
    result = {
        "what": "members per hour: one eager trial with a DataLoader per process, against packs, on the same cores",
        "networks": networks,
        "machine": machine,
        "load_average_after": described()["load_average"],
    }
    if arguments.ray:
        result["ray"] = ray_start_up(6, processes)
        print("Ray Tune:", result["ray"])
    out = arguments.out or (None if arguments.quick or arguments.only else RESULTS)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
