"""The data of a pack, on the device: every member's draw of the data set, stacked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.build import build_task
from trainables.precision import master_dtype
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import Split, Task, as_dtype

__all__ = ["Arena", "StackedSplit", "open_arena"]


@dataclass(frozen=True)
class StackedSplit:
    """One split of D draws of a data set.

    Attributes:
        x: `[D, n, ...]`, as stored.
        y: `[D, n]`.
    """

    x: Tensor
    y: Tensor

    @property
    def samples(self) -> int:
        """Samples in each draw."""
        return self.x.shape[1]


@dataclass(frozen=True)
class Arena:
    """What the members of a pack train and are measured on.

    Attributes:
        task: of the first draw; model, loss, augmentation and scale invariance are the same in all.
        draws: data seed to index D; seeds whose data are the same tensors share one.
        splits: split or probe name to its data.
    """

    task: Task
    draws: dict[int, int]
    splits: dict[str, StackedSplit]

    @property
    def train(self) -> StackedSplit:
        """The training split."""
        return self.splits["train"]


HELD = 16  # stacked tensors a process keeps: splits of a few data sets

_held: dict[tuple[object, ...], tuple[Sequence[Tensor], Tensor]] = {}
"""Stacked tensors by the tensors they were made of (kept with them, so that an address means one tensor)."""


def _stacked(name: str, parts: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The parts of all draws as one tensor on the device; all packs of a process share it."""
    shapes = {tuple(part.shape) for part in parts}
    if len(shapes) > 1:
        raise SpecError(
            [f"split {name!r} must have one shape for every data_seed, found {sorted(shapes)}; make the sizes equal"]
        )
    key = (*((part.data_ptr(), tuple(part.shape), part.dtype) for part in parts), dtype, device)
    if key not in _held:
        rows = [as_dtype(part, dtype) for part in parts]
        stacked = (rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)).to(device)
        while len(_held) >= HELD:
            del _held[next(iter(_held))]
        _held[key] = (parts, stacked)
    return _held[key][1]


def _same_data(task: Task) -> tuple[int, ...]:
    """Where a task's data lie: equal for tasks that are made of the same tensors."""
    splits = [task.train, task.valid, task.test, *task.probes.values()]
    return tuple(tensor.data_ptr() for split in splits if split is not None for tensor in (split.x, split.y))


def open_arena(recipe: Recipe, data_seeds: Sequence[int], *, probes: bool, device: str = "cpu") -> Arena:
    """Build a recipe's task on each draw and put everything on the device.

    Args:
        recipe: names task, model and precision.
        data_seeds: which draws; repeats allowed.
        probes: whether to load the task's probe sets too.
        device: where to.

    Returns:
        The arena.

    Raises:
        SpecError: draws differ in shape.
    """
    distinct = sorted(set(data_seeds))
    built = [build_task(recipe, seed) for seed in distinct]
    places: dict[tuple[int, ...], int] = {}
    draws = {seed: places.setdefault(_same_data(task), len(places)) for seed, task in zip(distinct, built, strict=True)}
    tasks = [built[list(draws.values()).index(index)] for index in range(len(places))]
    dtype, where = master_dtype(recipe), torch.device(device)
    names = [name for name in ("train", "valid", "test") if tasks[0].split(name) is not None]
    splits = {}
    for name in [*names, *(tasks[0].probes if probes else ())]:
        parts: list[Split] = [split for task in tasks if (split := task.split(name)) is not None]
        splits[name] = StackedSplit(
            _stacked(name, [part.x for part in parts], dtype, where),
            _stacked(name, [part.y for part in parts], dtype, where),
        )
    return Arena(task=tasks[0], draws=draws, splits=splits)
