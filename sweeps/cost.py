"""What a sweep will cost: time, memory, disk. A small model of constants, each measured once or said to be a guess.

Time was measured on one core of a 2-core virtual machine with batches of 16 of the scale-invariant MLP in stacks of
some 100 rows: 5.2 us per member-step at width 32, 20 us at width 64. Elsewhere expect half to twice that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.schema import Sweep
from trainables.spec import Pack, Recipe

__all__ = ["OWN_TASK", "WORKER_BYTES", "CostModel", "Sizes", "disk_bytes", "total_memory", "wall_seconds"]

ROW_SECONDS = 0.36e-6
"""A row's share of a compiled step that does not depend on its size."""
MULTIPLY_ADD_SECONDS = 1.37e-10
"""A step's time for each multiply-add of its forward pass; the backward pass is in it."""
STEP_SECONDS = 40e-6
"""What a compiled step costs whatever its rows: few rows train nearly as long as many."""
LOOP_SECONDS = 330e-6
"""The same for a step of one ordinary module, as the `loop` executor does it."""
GPU_MULTIPLY_ADD_SECONDS = 1e-12
"""A guess for small networks, which do not fill a GPU."""
EVALUATION = 1 / 3
"""A forward pass alone, as a share of a training step."""
START_SECONDS = 12.0
"""Ray, torch, the report, the mirror."""
COMPILE_SECONDS = 8.0
"""One graph: one recipe at one width, on each worker."""

WORKER_BYTES = 400e6
"""A process that has loaded torch."""
DRIVER_BYTES = 700e6
"""The process that watches, and Ray's own."""
EPOCH_ROW_BYTES = 110
PROBE_ROW_BYTES = 25
MLFLOW_METRIC_BYTES = 300
MLFLOW_MEMBERS = 1000
REPORT_BYTES = 8e6

OWN_TASK = "time, memory and disk are rough guesses: the size of a task of your own is not known before it runs"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a recipe's network and data are.

    Attributes:
        inputs: numbers per sample.
        weights: trained and frozen ones.
        units: activations per sample.
        train: training samples.
        test: test samples.
        probe_sets: evaluation sets beside these.
        probe: samples in each.
        stacked: True where many rows train as one compiled step.
    """

    inputs: int
    weights: int
    units: int
    train: int
    test: int
    probe_sets: int = 0
    probe: int = 0
    stacked: bool = True

    @classmethod
    def of(cls, recipe: Recipe, sweep: Sweep) -> "Sizes":
        """Read the sizes off a recipe.

        Args:
            recipe: one of the sweep's.
            sweep: says what is measured, and the executor.

        Returns:
            Exact for built-in tasks; a small network is assumed for a task of the user's own.
        """
        task, model = dict(recipe.task_args), dict(recipe.model_args)
        stacked = sweep.run.executor != "loop" and recipe.model is not None
        if recipe.model is None:
            return cls(inputs=3072, weights=100_000, units=10_000, train=10_000, test=2_000, stacked=stacked)
        features = int(task.get("features") or 0)
        inputs, outputs = (2 * features, 1) if features else (64, 10)
        width, depth = int(model["width"] or 0), int(model["depth"] or 0)
        return cls(
            inputs=inputs,
            weights=inputs * width + (depth - 1) * width**2 + width * outputs,
            units=inputs + depth * width + outputs,
            train=int(task["train_size"] or 0),
            test=int(task["test_size"] or 0),
            probe_sets=features if sweep.measure.probes else 0,
            probe=int(task.get("probe_size") or 0),
            stacked=stacked,
        )


@dataclass(frozen=True)
class CostModel:
    """Time and memory of one recipe's packs.

    Attributes:
        recipe: the recipe.
        sizes: its sizes.
        report_every: steps between evaluations.
        averages: running averages of weights that a row may carry.
        gpu: True where packs train on GPUs.
    """

    recipe: Recipe
    sizes: Sizes
    report_every: int
    averages: int
    gpu: bool

    @property
    def row_bytes(self) -> float:
        """Memory of one row: weights, gradients, momentum, a saved copy, averages; activations of a step or a test."""
        item = 8 if self.recipe.dtype == "float64" else 4
        samples = max(3 * self.recipe.batch_size, min(self.sizes.test, 2048))
        return item * ((5 + self.averages) * self.sizes.weights + samples * self.sizes.units)

    @property
    def data_bytes(self) -> float:
        """Memory of one draw of the data."""
        samples = self.sizes.train + self.sizes.test + self.sizes.probe_sets * self.sizes.probe
        return 4 * samples * self.sizes.inputs

    def memory(self, pack: Pack) -> float:
        """Bytes of a pack at work.

        Args:
            pack: of this recipe.
        """
        draws = len({segment.owner.data_seed for segment in pack.segments})
        return WORKER_BYTES + pack.width * self.row_bytes + draws * self.data_bytes

    def seconds(self, pack: Pack, longest: int) -> float:
        """Training time of a pack on one core or GPU, without compilation.

        Args:
            pack: of this recipe.
            longest: steps of its longest schedule, which no width makes shorter.
        """
        once = GPU_MULTIPLY_ADD_SECONDS if self.gpu else MULTIPLY_ADD_SECONDS
        row = (0.0 if self.gpu else ROW_SECONDS) + once * self.sizes.weights * self.recipe.batch_size
        steps = pack.member_steps
        in_a_row = max(longest, steps / pack.width) if self.sizes.stacked else steps
        ends = sum(segment.ends for segment in pack.segments)
        rest = self.sizes.train + self.sizes.probe_sets * self.sizes.probe
        samples = steps / self.report_every * self.sizes.test + ends * (1 + self.averages) * (self.sizes.test + rest)
        evaluation = samples * self.sizes.weights * once * EVALUATION
        return in_a_row * (STEP_SECONDS if self.sizes.stacked else LOOP_SECONDS) + steps * row + evaluation


def disk_bytes(packs: Sequence[Pack], sizes: Sequence[Sizes]) -> float:
    """What the results folder will take.

    Args:
        packs: all of the sweep's.
        sizes: each pack's.
    """
    total = REPORT_BYTES
    for pack, size in zip(packs, sizes, strict=True):
        every, keep = pack.measure.report_every, len(pack.measure.keep)
        item = 8 if pack.recipe.dtype == "float64" else 4
        for segment in pack.segments:
            rows = math.ceil(segment.steps / every)
            total += rows * EPOCH_ROW_BYTES
            if segment.ends:
                swa = pack.measure.swa.get(segment.phase.name)
                solutions = 1 + (len(swa.windows) if swa else 0)
                total += solutions * (4 + size.probe_sets) * PROBE_ROW_BYTES
                total += (solutions + keep) * size.weights * item
    ends = sum(segment.ends for pack in packs for segment in pack.segments)
    rows = sum(math.ceil(segment.steps / pack.measure.report_every) for pack in packs for segment in pack.segments)
    return total + rows * min(1.0, MLFLOW_MEMBERS / max(ends, 1)) * 7 * MLFLOW_METRIC_BYTES


def wall_seconds(packs: Sequence[Pack], costs: dict[str, CostModel], lanes: int) -> float:
    """Wall time: start-up, then the busiest lane when each pack, the longest first, goes to the first free one.

    Args:
        packs: all of the sweep's.
        costs: by recipe id.
        lanes: packs at work at once.
    """
    work = sorted(
        (
            (costs[pack.recipe.recipe_id].seconds(pack, max(s.start + s.steps for s in pack.segments)), pack)
            for pack in packs
        ),
        key=lambda pair: -pair[0],
    )
    busy = [0.0] * lanes
    graphs: list[set[tuple[str, int]]] = [set() for _ in busy]
    for seconds, pack in work:
        lane = busy.index(min(busy))
        graph = (pack.recipe.recipe_id, pack.width)
        compiling = COMPILE_SECONDS if costs[pack.recipe.recipe_id].sizes.stacked and graph not in graphs[lane] else 0.0
        graphs[lane].add(graph)
        busy[lane] += seconds + compiling
    return START_SECONDS + max(busy)


def total_memory(packs: Sequence[Pack], costs: dict[str, CostModel], lanes: int) -> float:
    """Memory of the driver and of the largest packs that can be at work together.

    Args:
        packs: all of the sweep's.
        costs: by recipe id.
        lanes: packs at work at once.
    """
    largest = sorted((costs[pack.recipe.recipe_id].memory(pack) for pack in packs), reverse=True)
    return DRIVER_BYTES + sum(largest[:lanes])
