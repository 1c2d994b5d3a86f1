"""Processor time of one member-step with batch norm: many networks in the batched form against one ordinary module.

The network is that of the intrinsic-learning-rate recipe (digits, 64-32-32-10 without biases, batch norm without scale
and shift, frozen head, batches of 32). The ordinary loop is one `nn.Module` with `torch.optim.SGD`, its batches drawn
beforehand and nothing measured. Our side takes the same steps with all rows of a pack, batches, sums, and running
statistics included. Compilation is left out. Both sides use one thread and are run alternately in one process.

    python benchmarks/batchnorm.py   # about a minute
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from _machine import described

from trainables.build import build_task
from trainables.catalog import model_arguments
from trainables.executors.base import ExecutorName
from trainables.order import batches
from trainables.process import prepare_process
from trainables.setting import Setting
from trainables.spec import Measure, Member, Pack, Phase, Recipe, Segment

RESULTS = Path(__file__).resolve().parent / "results" / "batchnorm.json"
RECIPE = Recipe(
    task="digits",
    task_args={"train_size": 1000, "test_size": 797, "label_noise": 0.1},
    model="mlp_norm",
    model_args=model_arguments("mlp_norm"),
    batch_size=32,
)
LR, WEIGHT_DECAY = 0.2, 0.02
STEPS = 31  # an epoch


def pack_of(rows: int) -> Pack:
    """A pack of networks that differ in their seeds."""
    phase = Phase(name="train", steps=STEPS, lr=LR, weight_decay=WEIGHT_DECAY)
    members = [Member(recipe=RECIPE, seed=seed, phases=(phase,)) for seed in range(rows)]
    segments = tuple(
        Segment(
            segment_id=member.member_id,
            parent=None,
            start=0,
            steps=STEPS,
            phase=phase,
            phase_start=0,
            phase_end=True,
            owner=member,
            ends=True,
        )
        for member in members
    )
    measure = Measure(report_every=STEPS)
    return Pack(pack_id="batchnorm", recipe=RECIPE, measure=measure, segments=segments, width=rows)


class Ours:
    """All rows of a pack, step by step."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.setting = Setting(pack_of(rows), folder, ExecutorName.STACKED, "cpu")
        self.cohort = self.setting.cohorts[0]
        self.population = self.setting.populate(self.cohort)

    def microseconds(self) -> float:
        """Of one member-step, over an epoch; the table of batches is in it."""
        rows = len(self.population)
        began = time.process_time()
        seeds, hyper = self.setting.hyper(self.cohort, rows)
        self.setting.executor.step(self.population, self.setting.block(self.cohort, seeds, rows, 0, STEPS), hyper)
        return 1e6 * (time.process_time() - began) / STEPS / rows


class Ordinary:
    """One module and torch's own optimiser."""

    def __init__(self) -> None:
        task = build_task(RECIPE, 0)
        torch.manual_seed(0)
        self.module, self.loss = task.model().train(), torch.nn.CrossEntropyLoss()
        learned = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        self.sgd = torch.optim.SGD(learned, lr=LR, weight_decay=WEIGHT_DECAY)
        table = batches([0], len(task.train), RECIPE.batch_size, 0, STEPS)[:, 0]
        self.data = [(task.train.x[rows].float(), task.train.y[rows]) for rows in table]

    def microseconds(self) -> float:
        """Of one step, over an epoch."""
        began = time.process_time()
        for x, y in self.data:
            self.sgd.zero_grad()
            self.loss(self.module(x), y).backward()
            self.sgd.step()
        return 1e6 * (time.process_time() - began) / STEPS


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=120, help="networks in the pack")
    parser.add_argument("--repeats", type=int, default=40, help="epochs of each side")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result goes")
    arguments = parser.parse_args()
    prepare_process("cpu")
    with tempfile.TemporaryDirectory() as folder:
        sides = {"ours": Ours(arguments.rows, Path(folder)), "ordinary_loop": Ordinary()}
        for side in sides.values():
            side.microseconds()  # compiles, warms caches
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(arguments.repeats):
            for name, side in sides.items():
                times[name].append(side.microseconds())
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "what": "processor microseconds per member-step of a perceptron with batch norm on one thread",
        "rows_at_once": arguments.rows,
        "steps_of_each_side": arguments.repeats * STEPS,
        **{name: {"median": medians[name], "min": min(values), "max": max(values)} for name, values in times.items()},
        "ratio": medians["ordinary_loop"] / medians["ours"],
        "machine": described(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}, indent=2))


if __name__ == "__main__":
    main()
