"""Size, power and coverage of the invariance tests, on simulated data whose truth is known.

Every case is a promise of the form "this happens with probability p" (or at most, or at least): the level of a test,
the power a sample size was computed for, the coverage of an interval. It is simulated many times, and kept where the
exact binomial interval of what was counted allows it. The intervals are at 99.9 %, since there are some fifty of them.

    python benchmarks/verdicts.py                     # about 10 minutes on 2 idle cores
    python benchmarks/verdicts.py --simulations 300   # 2 minutes
"""

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

from _machine import described
from _verdict_cases import CASES

RESULTS = Path(__file__).resolve().parent / "results" / "statistics.json"
CONFIDENCE = 0.999


def counted(place: int, simulations: int) -> tuple[int, float]:
    """One case's count and the seconds it took; cases are named by place, because their events do not pickle."""
    began = time.perf_counter()
    return CASES[place].count(simulations), time.perf_counter() - began


def main() -> None:
    """Simulate every case, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000, help="of each case")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at work at once")
    parser.add_argument("--only", default="", help="cases whose test or name holds this")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result goes")
    arguments = parser.parse_args()
    machine = described()  # of the code as loaded, whatever is committed meanwhile
    chosen = [place for place, case in enumerate(CASES) if arguments.only in f"{case.test} {case.name}"]
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        counts = pool.map(counted, chosen, [arguments.simulations] * len(chosen))
        for case, (happened, seconds) in zip((CASES[place] for place in chosen), counts, strict=True):
            kept, low, high = case.holds(happened, arguments.simulations, CONFIDENCE)
            share = happened / arguments.simulations
            rows.append(
                {
                    "test": case.test,
                    "case": case.name,
                    "promised": case.promised,
                    "rule": case.rule,
                    "share": share,
                    "interval": [low, high],
                    "kept": kept,
                }
            )
            print(
                f"{case.test} {case.name:88} {case.rule:8} {case.promised:.4f}"
                f"  found {share:.4f} [{low:.4f}, {high:.4f}]  {'kept' if kept else 'BROKEN'}  {seconds:.0f} s",
                flush=True,
            )
    broken = sum(not row["kept"] for row in rows)
    result = {
        "what": "how often the invariance tests do what they promise, on simulated data",
        "simulations": arguments.simulations,
        "confidence": CONFIDENCE,
        "broken": broken,
        "cases": rows,
        "scipy": version("scipy"),
        "machine": machine,
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{len(rows) - broken} of {len(rows)} promises kept; {arguments.out}")
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
