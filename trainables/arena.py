"""The data of a pack, on the device: every member's draw of the data set, stacked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.build import build_task
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import Split, Task, as_dtype

__all__ = ["Arena", "StackedSplit", "open_arena"]


@dataclass(frozen=True)
class StackedSplit:
    """One split of D draws of a data set.

    Attributes:
        x: `[D, n, ...]`.
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
        task: of the first draw; model, loss and scale invariance are the same in all.
        draws: data seed to index D.
        splits: split or probe name to its data.
    """

    task: Task
    draws: dict[int, int]
    splits: dict[str, StackedSplit]

    @property
    def train(self) -> StackedSplit:
        """The training split."""
        return self.splits["train"]


def _stacked(name: str, splits: Sequence[Split], dtype: torch.dtype, device: torch.device) -> StackedSplit:
    shapes = {tuple(split.x.shape) for split in splits}
    if len(shapes) > 1:
        raise SpecError(
            [f"split {name!r} must have one shape for every data_seed, found {sorted(shapes)}; make the sizes equal"]
        )
    x = torch.stack([as_dtype(split.x, dtype) for split in splits])
    y = torch.stack([as_dtype(split.y, dtype) for split in splits])
    return StackedSplit(x.to(device), y.to(device))


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
    tasks = [build_task(recipe, seed) for seed in distinct]
    dtype, where = getattr(torch, recipe.dtype), torch.device(device)
    names = [name for name in ("train", "valid", "test") if tasks[0].split(name) is not None]
    splits = {}
    for name in [*names, *(tasks[0].probes if probes else ())]:
        parts = [split for task in tasks if (split := task.split(name)) is not None]
        splits[name] = _stacked(name, parts, dtype, where)
    return Arena(task=tasks[0], draws={seed: index for index, seed in enumerate(distinct)}, splits=splits)
