"""Processor time of one member-step: a pack, everything included, against the ordinary loop.

The ordinary loop is what the published synthetic study does (Sadrtdinov et al., NeurIPS 2024), written plainly: one
`nn.Module` at a time, `DataLoader`, `torch.optim.SGD`, projection to the sphere after each step, and accuracy and loss
on the whole training and test set every five steps; measured with and without that evaluation. Our side is one whole
pack of `band-tick` at full length through the same code as in a sweep: training, rows, final quality, probe sets,
averages, checkpoints and the Parquet sink. Compilation is counted apart. Both sides use one thread and are run
alternately in one process.

    python benchmarks/compute.py             # about 2 minutes
    python benchmarks/compute.py --divide 8  # schedules an eighth as long
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from sweeps.folder import RunFolder
from sweeps.plan import plan
from sweeps.provenance import device, git_commit, versions
from sweeps.resources import this_machine
from sweeps.runner import RunOptions
from sweeps.sweep import load_sweep
from sweeps.trial import run_pack
from trainables.build import build_task
from trainables.spec import Pack, Recipe

RESULTS = Path(__file__).resolve().parent / "results" / "compute.json"
LR = 1e-2
EVALUATE_EVERY = 5
BASELINE_STEPS = 1500


def ordinary_loop(recipe: Recipe, steps: int, *, evaluate: bool) -> float:
    """Processor seconds of each step of the ordinary loop."""
    task = build_task(recipe, 0)
    torch.manual_seed(0)
    module = task.model()
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=LR)
    train, test = ((split.x.float(), split.y.float()) for split in (task.train, task.test))
    loader = DataLoader(TensorDataset(*train), batch_size=recipe.batch_size, shuffle=True, drop_last=True)

    def forever() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    log = []
    began = time.process_time()
    for step, (x, y) in zip(range(steps), forever(), strict=False):
        loss = task.loss(module(x), y).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            norm = torch.sqrt(sum(parameter.square().sum() for parameter in learned))
            for parameter in learned:
                parameter.div_(norm)
            if evaluate and step % EVALUATE_EVERY == 0:
                for inputs, targets in (train, test):
                    logits = module(inputs)
                    right = ((logits[:, 0] > 0) == (targets > 0.5)).float().mean()
                    log.append((task.loss(logits, targets).mean().item(), right.item()))
    return (time.process_time() - began) / steps


def whole_pack(pack: Pack) -> dict[str, float]:
    """Processor seconds of a pack through the code of a sweep; the process must have compiled its graph before."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        for needed in (folder.epochs, folder.probes, folder.checkpoints, folder.state):
            needed.mkdir(parents=True, exist_ok=True)
        began = time.process_time()
        run_pack(pack, folder, attempt=1, options=RunOptions(), progress=lambda _progress: None)
        return {"seconds": time.process_time() - began, "member_steps": pack.member_steps}


def shortened(pack: Pack, divide: int) -> Pack:
    """The same pack with every schedule cut; used to compile, and for a quick look."""
    segments = tuple(
        replace(
            segment,
            start=segment.start // divide,
            steps=segment.steps // divide,
            phase=replace(segment.phase, steps=segment.phase.steps // divide),
        )
        for segment in pack.segments
    )
    every = max(1, pack.measure.report_every // divide)
    return replace(
        pack, pack_id=f"{pack.pack_id}-{divide}", segments=segments, measure=replace(pack.measure, report_every=every)
    )


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--divide", type=int, default=1, help="cut the schedules by this factor")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the ordinary loop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    planned = plan(load_sweep("band-tick"), **asdict(this_machine()))
    pack = planned.packs[0]
    began = time.process_time()
    whole_pack(shortened(pack, 20))
    first = time.process_time() - began
    ours, plain, bare = [], [], []
    for _ in range(arguments.repeats):
        plain.append(1e6 * ordinary_loop(pack.recipe, BASELINE_STEPS, evaluate=True))
        bare.append(1e6 * ordinary_loop(pack.recipe, BASELINE_STEPS, evaluate=False))
        if not ours or arguments.divide > 1:
            measured = whole_pack(pack if arguments.divide == 1 else shortened(pack, arguments.divide))
            ours.append(1e6 * measured["seconds"] / measured["member_steps"])
    again = whole_pack(shortened(pack, 20))["seconds"]
    result = {
        "what": "processor microseconds per member-step of band-tick on one thread",
        "ours_everything_included": ours,
        "rows_at_once": pack.width,
        "member_steps": pack.member_steps // arguments.divide,
        "ordinary_loop_with_evaluation": plain,
        "ordinary_loop_without_evaluation": bare,
        "ratio_with_evaluation": statistics.median(plain) / statistics.median(ours),
        "ratio_without_evaluation": statistics.median(bare) / statistics.median(ours),
        "start_and_compilation_seconds": first - again,
        "load_average_before": os.getloadavg()[2],
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "device": device(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key not in ("versions", "device")}, indent=2))


if __name__ == "__main__":
    main()
