"""What Ray, Parquet and MLflow cost over the bare training loop, measured side by side on the same packs.

The bare loop is `list(train(pack))`, as many processes at once as the sweep has cores, each taking the next pack: the
least that any runner could do. The sweep is `lratlas run` from its start to its last line, without the report, which is
analysis and not overhead; the report's time is stated beside it. Both sides run in fresh processes, alternately,
and both pay for imports and compilation (the compile cache is emptied before each).

    python benchmarks/overhead.py                 # about 6 minutes
    python benchmarks/overhead.py --steps 40000   # runs of 5 minutes and more
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results" / "overhead.json"
SWEEP = "band-digits"


def changes(steps: int) -> list[str]:
    """The preset, shortened."""
    return [f"phases.0.steps={steps}", f"phases.1.steps={max(1000, steps // 5)}"]


def environment(cache: Path) -> dict[str, str]:
    """A fresh compile cache, and one thread a process as in every worker."""
    return os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def bare(steps: int) -> None:
    """One process of the bare side: trains the packs named by number on standard input, and nothing else."""
    from sweeps.plan import plan
    from sweeps.resources import this_machine
    from sweeps.sweep import load_sweep
    from trainables.loop import train

    packs = plan(load_sweep(SWEEP, changes(steps)), **asdict(this_machine())).packs
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            list(train(packs[int(line)], folder=Path(folder), attempt=1))


def sweep(steps: int, out: Path) -> None:
    """The other side: a whole sweep; the last line of standard error says how long report and mirror took."""
    import typer

    import analysis.report
    import sweeps.mirror
    from sweeps.commands.run import run

    seconds = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            seconds[name] = time.perf_counter() - began
            return result

        return call

    analysis.report.write_report = timed("report", analysis.report.write_report)
    sweeps.mirror.mirror = timed("mirror", sweeps.mirror.mirror)
    try:
        run(SWEEP, out=out, changes=changes(steps), runner="ray", address=None, as_json=False)
    except typer.Exit as end:
        print(json.dumps({"exit_code": end.exit_code, **seconds}), file=sys.stderr)


def measure_bare(steps: int, cores: int, packs: int) -> float:
    """Wall seconds of the bare loop."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        command = [sys.executable, __file__, "--bare", "--steps", str(steps)]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(Path(cache)), text=True)
            for _ in range(cores)
        ]
        for number, worker in enumerate(workers):
            assert worker.stdin is not None
            worker.stdin.write("".join(f"{pack}\n" for pack in range(number, packs, cores)))
            worker.stdin.close()
        codes = [worker.wait() for worker in workers]
        seconds = time.perf_counter() - began
    if any(codes):
        raise RuntimeError(f"the bare loop failed: {codes}")
    return seconds


def measure_sweep(steps: int) -> dict[str, float]:
    """Wall seconds of the sweep, in parts."""
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        command = [sys.executable, __file__, "--sweep", str(Path(place) / "out"), "--steps", str(steps)]
        done = subprocess.run(command, env=environment(Path(place)), capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        parts = json.loads(done.stderr.strip().splitlines()[-1])
        if parts.pop("exit_code") != 0:
            raise RuntimeError(done.stdout + done.stderr)
    return {"total": seconds, **parts}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12000, help="pre-training steps of band-digits")
    parser.add_argument("--repeats", type=int, default=2, help="pairs of runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sweep", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.steps)
    elif arguments.sweep:
        sweep(arguments.steps, arguments.sweep)
    else:
        compare(arguments.steps, arguments.repeats, arguments.out)


def compare(steps: int, repeats: int, out: Path) -> None:
    """Run both sides alternately, print and store what came out.

    Args:
        steps: pre-training steps.
        repeats: pairs of runs.
        out: where the JSON goes.
    """
    from sweeps.plan import plan
    from sweeps.provenance import device, git_commit, versions
    from sweeps.resources import this_machine
    from sweeps.sweep import load_sweep

    here = this_machine()
    planned = plan(load_sweep(SWEEP, changes(steps)), **asdict(here))
    pairs = []
    for _ in range(repeats):
        alone = measure_bare(steps, here.cores, len(planned.packs))
        whole = measure_sweep(steps)
        cost = whole["total"] - whole["report"] - alone
        pairs.append({"bare": alone, **whole, "overhead": cost, "overhead_share": cost / alone})
        print({key: round(value, 3) for key, value in pairs[-1].items()})
    seconds = statistics.median(pair["overhead"] for pair in pairs)
    alone = statistics.median(pair["bare"] for pair in pairs)
    result = {
        "what": "wall seconds of a sweep through Ray, Parquet and MLflow, its report excepted, against the bare loop",
        "sweep": SWEEP,
        "changes": changes(steps),
        "members": len(planned.members),
        "packs": len(planned.packs),
        "member_steps": planned.member_steps,
        "processes": here.cores,
        "pairs": pairs,
        "overhead_seconds": seconds,
        "overhead_share": seconds / alone,
        # Start-up and the mirror do not grow with the run: their share of a run of five minutes.
        "overhead_share_of_300_s": seconds / 300,
        "load_average_before": os.getloadavg()[2],
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "device": device(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"overhead {seconds:.1f} s on {alone:.1f} s: {100 * seconds / alone:.1f} %; {out}")


if __name__ == "__main__":
    main()
