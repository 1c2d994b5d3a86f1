"""The data of a pack, on the device: every member's draw of the data set, stacked."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.build import build_task
from trainables.precision import master_dtype
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import ProbeGroup, Split, Task, as_dtype

__all__ = ["FEATURES", "Arena", "ProbeSet", "StackedSplit", "open_arena", "probe_groups_of"]

FEATURES = "features"
"""The group of a task's plain `probes`."""


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
class ProbeSet:
    """One probe set on the device.

    Attributes:
        probe: what its accuracy is called in the table `probes`.
        split: which variant.
        key: its name.
        data: the samples.
    """

    probe: str
    split: str
    key: str
    data: StackedSplit


@dataclass(frozen=True)
class Arena:
    """What the members of a pack train and are measured on.

    Attributes:
        task: of the first draw; model, loss, augmentation and scale invariance are the same in all.
        draws: data seed to index D; seeds whose data are the same tensors share one.
        splits: split name to its data; the task's plain `probes` are among them if `features` were asked for.
        groups: the groups of probe sets asked for, each as the D draws have it; `features` are in `splits`.
        dtype: of floating data.
    """

    task: Task
    draws: dict[int, int]
    splits: dict[str, StackedSplit]
    groups: Mapping[str, tuple[ProbeGroup, ...]] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    @property
    def train(self) -> StackedSplit:
        """The training split."""
        return self.splits["train"]

    def probe_sets(self, group: str, samples: int | None = None) -> Iterator[ProbeSet]:
        """The sets of one group, made one after the other; sets that all draws share take the room of one.

        Args:
            group: one that was asked for.
            samples: at most how many of each set; None for all. `features` are always whole.

        Yields:
            Each set of D draws.
        """
        if group == FEATURES:
            for name in self.task.probes:
                yield ProbeSet("feature_accuracy", "probe", name, self.splits[name])
            return
        made = {_origin(one.source): one for one in self.groups[group]}
        order = [list(made).index(_origin(one.source)) for one in self.groups[group]]
        for named in zip(*(one.sets(samples) for one in made.values()), strict=True):
            x, y = (self._spread([getattr(split, part) for _, split in named], order) for part in ("x", "y"))
            yield ProbeSet(self.groups[group][0].probe, self.groups[group][0].split, named[0][0], StackedSplit(x, y))

    def _spread(self, parts: Sequence[Tensor], order: Sequence[int]) -> Tensor:
        rows = [as_dtype(part, self.dtype).to(self.train.x.device) for part in parts]
        if len(rows) == 1:
            return rows[0].unsqueeze(0).expand(len(order), *rows[0].shape)
        return torch.stack([rows[place] for place in order])


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


def _origin(source: Split | None) -> tuple[object, ...]:
    """Equal for groups made of the same samples."""
    if source is None:
        return ()
    return (source.x.data_ptr(), tuple(source.x.shape), source.y.numpy().tobytes())


def _same_data(task: Task) -> tuple[int, ...]:
    """Where a task's data lie: equal for tasks that are made of the same tensors."""
    splits = [task.train, task.valid, task.test, *task.probes.values()]
    return tuple(tensor.data_ptr() for split in splits if split is not None for tensor in (split.x, split.y))


def open_arena(
    recipe: Recipe, data_seeds: Sequence[int], *, probes: Collection[str] = (), device: str = "cpu"
) -> Arena:
    """Build a recipe's task on each draw and put everything on the device.

    Args:
        recipe: names task, model and precision.
        data_seeds: which draws; repeats allowed.
        probes: groups of probe sets that will be measured: `features` for the task's plain `probes`, names of its
            `probe_groups`.
        device: where to.

    Returns:
        The arena.

    Raises:
        SpecError: draws differ in shape; the task has no such group.
    """
    distinct = sorted(set(data_seeds))
    built = [build_task(recipe, seed) for seed in distinct]
    places: dict[tuple[int, ...], int] = {}
    draws = {seed: places.setdefault(_same_data(task), len(places)) for seed, task in zip(distinct, built, strict=True)}
    tasks = [built[list(draws.values()).index(index)] for index in range(len(places))]
    dtype, where = master_dtype(recipe), torch.device(device)
    groups = {name: _groups(tasks, name) for name in dict.fromkeys(probes)}
    names = [name for name in ("train", "valid", "test") if tasks[0].split(name) is not None]
    splits = {}
    for name in [*names, *(tasks[0].probes if FEATURES in groups else ())]:
        parts: list[Split] = [split for task in tasks if (split := task.split(name)) is not None]
        splits[name] = StackedSplit(
            _stacked(name, [part.x for part in parts], dtype, where),
            _stacked(name, [part.y for part in parts], dtype, where),
        )
    return Arena(task=tasks[0], draws=draws, splits=splits, groups=groups, dtype=dtype)


def probe_groups_of(task: Task) -> tuple[str, ...]:
    """Names of the groups of probe sets that can be asked for: `features` where there are any, then `probe_groups`."""
    return (*([FEATURES] if task.probes else []), *task.probe_groups)


def _groups(tasks: Sequence[Task], name: str) -> tuple[ProbeGroup, ...]:
    """One group as each draw has it; none of `features`, whose sets are held like splits."""
    if name == FEATURES:
        return ()
    known = [FEATURES, *tasks[0].probe_groups]
    if name not in known:
        raise SpecError([f"probe sets must be among {', '.join(known)} for this task, found {name!r}"])
    return tuple(task.probe_groups[name] for task in tasks)
