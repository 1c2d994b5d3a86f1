"""What a sweep will cost: time, memory, disk. A small model of constants, each measured once or said to be a guess.

Stacked networks were timed on one core of a 2-core virtual machine with batches of 16 of the scale-invariant MLP in
stacks of some 100 rows: 5.2 us per member-step at width 32, 20 us at width 64. Elsewhere expect half to twice that.
Ordinary modules are timed where the plan is made, a few steps of each recipe.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sweeps.memory import MemoryModel
from sweeps.sizes import Sizes
from trainables.spec import Pack, Recipe

__all__ = ["WORKER_BYTES", "CostModel", "disk_bytes", "total_memory", "wall_seconds"]

ROW_SECONDS = 0.36e-6
"""A row's share of a compiled step that does not depend on its size."""
MULTIPLY_ADD_SECONDS = 1.37e-10
"""A step's time for each multiply-add of its forward pass; the backward pass is in it."""
STEP_SECONDS = 40e-6
"""What a compiled step costs whatever its rows: few rows train nearly as long as many."""
LOOP_SECONDS = 330e-6
"""The same for a step of one ordinary module, as the `loop` executor does it."""
ORDINARY_SECONDS = 200e-6
"""The part of these that is not the module's own forward and backward pass: batch, optimiser, sums."""
UPDATE_SECONDS = 1e-8
"""The optimiser's time for each trained parameter of an ordinary module."""
GPU_MULTIPLY_ADD_SECONDS = {"float32": 2.5e-13, "bfloat16": 3e-14, "float64": 1e-12}
"""Guesses for one large GPU of a data centre: a step's time for each multiply-add of its forward pass."""
GPU_UNIT_SECONDS = {"float32": 1e-11, "bfloat16": 5e-12, "float64": 2e-11}
"""Guesses likewise: for each activation that a step keeps, whose way through memory it waits for."""
GPU_ROW_SECONDS = 30e-6
"""A guess: what the kernels of one ordinary module's step cost however small it is."""
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
TRACE_ROWS = 20
"""Of each look at norms and angles: five facts of some four tensors. A guess that loads no network."""
MLFLOW_METRIC_BYTES = 300
MLFLOW_MEMBERS = 1000
REPORT_BYTES = 8e6


@dataclass(frozen=True)
class CostModel:
    """Time and memory of one recipe's packs.

    Attributes:
        recipe: the recipe.
        sizes: its sizes.
        averages: running averages of weights that a row may carry.
        gpu: True where packs train on GPUs.
        executor: as the sweep asks.
        momenta: rows carry momentum.
    """

    recipe: Recipe
    sizes: Sizes
    averages: int
    gpu: bool
    executor: str = "auto"
    momenta: bool = False

    @property
    def stacked(self) -> bool:
        """Whether rows train as one compiled step."""
        return self.sizes.stackable and self.executor in ("auto", "stacked")

    @cached_property
    def memory(self) -> MemoryModel:
        """Memory of its packs."""
        return MemoryModel(
            recipe=self.recipe,
            sizes=self.sizes,
            averages=self.averages,
            momenta=self.momenta,
            stacked=self.stacked,
            gpu=self.gpu,
        )

    def pack_bytes(self, pack: Pack) -> float:
        """Bytes of a pack at work, beyond an idle process, on the device that trains it.

        Args:
            pack: of this recipe.
        """
        return self.memory.pack_bytes(pack.width, _draws(pack))

    def host_bytes(self, pack: Pack) -> float:
        """The same of the computer's own memory.

        Args:
            pack: of this recipe.
        """
        return self.memory.host_bytes(pack.width, _draws(pack))

    @cached_property
    def row_seconds(self) -> float:
        """Time of one member-step, without what a step costs whatever its rows."""
        batch, sizes = self.recipe.batch_size, self.sizes
        if self.gpu:
            compute = GPU_MULTIPLY_ADD_SECONDS[self.recipe.dtype] * sizes.multiply_adds * batch
            moving = GPU_UNIT_SECONDS[self.recipe.dtype] * sizes.units * batch
            return max(compute, moving) + (0.0 if self.stacked else GPU_ROW_SECONDS)
        if self.stacked or sizes.step is None:
            return ROW_SECONDS + MULTIPLY_ADD_SECONDS * sizes.multiply_adds * batch
        from trainables.footprint import step_seconds  # loads torch

        return step_seconds(self.recipe) + UPDATE_SECONDS * sizes.trained

    @property
    def sample_seconds(self) -> float:
        """Time of evaluating one sample with one network."""
        batch, sizes = self.recipe.batch_size, self.sizes
        if self.gpu or (sizes.step is not None and not self.stacked):
            return EVALUATION * self.row_seconds / batch
        return EVALUATION * MULTIPLY_ADD_SECONDS * sizes.multiply_adds

    def seconds(self, pack: Pack, longest: int) -> float:
        """Training time of a pack on one core or GPU, without compilation.

        Args:
            pack: of this recipe.
            longest: steps of its longest schedule, which no width makes shorter.
        """
        steps = pack.member_steps
        if self.stacked:
            once = STEP_SECONDS * max(longest, steps / pack.width)
        elif self.gpu:
            once = STEP_SECONDS * steps / pack.width
        else:
            once = (LOOP_SECONDS if self.sizes.step is None else ORDINARY_SECONDS) * steps
        ends = sum(segment.ends for segment in pack.segments)
        reports = steps / pack.measure.report_every
        samples = reports * self.sizes.reported + ends * (1 + self.averages) * self.sizes.evaluated
        if self.sizes.buffers:  # statistics of averages, and of all that is measured where the sweep asks for it
            anew = reports + ends if pack.measure.norm_statistics == "training_set" else 0.0
            samples += (anew + ends * self.averages) * self.sizes.train
        return once + steps * self.row_seconds + samples * self.sample_seconds


def _draws(pack: Pack) -> int:
    return len({segment.owner.data_seed for segment in pack.segments})


def disk_bytes(packs: Sequence[Pack], costs: Mapping[str, CostModel], kept_bytes: float, lanes: int) -> float:
    """What the results folder will take when it is fullest.

    Args:
        packs: all of the sweep's.
        costs: by recipe id.
        kept_bytes: of weights that are kept.
        lanes: packs at work at once, whose saved states come and go.
    """
    total, ends, rows = REPORT_BYTES + kept_bytes, 0, 0
    for pack in packs:
        every, sizes = pack.measure.report_every, costs[pack.recipe.recipe_id].sizes
        for segment in pack.segments:
            rows += math.ceil(segment.steps / every)
            if trace_every := pack.measure.trace.get(segment.phase.name):
                total += segment.steps / trace_every * TRACE_ROWS * PROBE_ROW_BYTES
            if labels := pack.measure.labels:
                looks = sum(segment.start < step <= segment.start + segment.steps for step in labels.steps)
                total += looks * labels.samples * PROBE_ROW_BYTES
            if segment.ends:
                swa = pack.measure.swa.get(segment.phase.name)
                ends += 1
                total += (1 + (len(swa.windows) if swa else 0)) * (4 + sizes.probe_sets) * PROBE_ROW_BYTES
    states = sorted((_state_bytes(pack, costs[pack.recipe.recipe_id].memory) for pack in packs), reverse=True)
    mirrored = rows * min(1.0, MLFLOW_MEMBERS / max(ends, 1)) * 7 * MLFLOW_METRIC_BYTES
    return total + rows * EPOCH_ROW_BYTES + mirrored + sum(states[:lanes])


def _state_bytes(pack: Pack, memory: MemoryModel) -> float:
    """Saved states of a pack at work: of the rows in training, twice while one replaces another, and of all parents."""
    parents = {segment.parent for segment in pack.segments if segment.parent is not None}
    return (2 * pack.width + len(parents)) * memory.saved_bytes


def wall_seconds(packs: Sequence[Pack], costs: Mapping[str, CostModel], lanes: int) -> float:
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
        compiling = COMPILE_SECONDS if costs[pack.recipe.recipe_id].stacked and graph not in graphs[lane] else 0.0
        graphs[lane].add(graph)
        busy[lane] += seconds + compiling
    return START_SECONDS + max(busy)


def total_memory(packs: Sequence[Pack], costs: Mapping[str, CostModel], lanes: int) -> float:
    """Memory of the driver and of the largest packs that can be at work together.

    Args:
        packs: all of the sweep's.
        costs: by recipe id.
        lanes: packs at work at once.
    """
    largest = sorted((costs[pack.recipe.recipe_id].host_bytes(pack) for pack in packs), reverse=True)[:lanes]
    return DRIVER_BYTES + sum(WORKER_BYTES + each for each in largest)
