"""The process that measures for `gpu.py`: takes case names, prints one line of JSON at each case's start and end.

A process of its own, because a fault on a GPU cannot be survived in the process that met it: `gpu.py` starts another
one for the cases that are left.
"""

import gc
import json
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from _gpu_bits import company, optimiser
from _gpu_nets import NETS, TINY
from _gpu_timing import ceilings, gather_rate, time_way

from trainables.executors.base import ExecutorName
from trainables.process import prepare_process

__all__ = ["GAVE_UP", "MARK", "measure"]

MARK = "@@ "  # begins our lines: libraries print too
GAVE_UP = 3  # exit code after a fault that the device does not recover from; the case was reported
BROKEN = ("CUDA error", "an illegal memory access", "device-side assert", "unspecified launch failure")


def measure(case: str, device: str, seconds: float) -> dict[str, object]:
    """Measure one case.

    Args:
        case: `ceilings`, `optimiser`, `gather`, `NET:WAY:ROWS` or `NET:bits:EXECUTOR`.
        device: `cuda` or `cpu`.
        seconds: to spend on what is timed.

    Returns:
        What was found.
    """
    prepare_process(device)  # each time: the eager loop has settings of its own
    nets = {net.name: net for net in (NETS if device == "cuda" else TINY)}
    if case == "ceilings":
        return ceilings(device, seconds)
    if case == "optimiser":
        return optimiser(device)
    if case == "gather":
        return gather_rate(nets["convnet_w8"], device, seconds)
    name, way, what = case.split(":")
    if way == "bits":
        return company(nets[name], ExecutorName(what), device)
    return time_way(nets[name], way, int(what), device, seconds)


def _say(**line: object) -> None:
    print(MARK + json.dumps(line), flush=True)


def main() -> None:
    """Measure every case named on the command line, after device and seconds."""
    device, seconds, cases = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    for case in cases:
        _say(begin=case)
        begun = time.perf_counter()
        try:
            result = measure(case, device, seconds)
        except Exception as error:  # whatever it is, the other cases are still wanted
            trace = traceback.format_exc(limit=-6)
            _say(end=case, error=f"{type(error).__name__}: {error}"[:2000], trace=trace[-4000:])
            if any(sign in str(error) for sign in BROKEN):
                sys.exit(GAVE_UP)
        else:
            _say(end=case, result=result, seconds=round(time.perf_counter() - begun, 2))
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
