"""The study behind `lratlas band`: the task tried out and timed, the grid laid, the plan made."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sweeps.band_cost import Calibration, calibrate
from sweeps.band_design import Budget, Design, Wish, designs, fitting
from sweeps.own_task import SAMPLES, Trial, try_out
from sweeps.plan import Plan, plan
from sweeps.resources import Resources, check_resources
from sweeps.runner import RunOptions
from sweeps.source import override
from sweeps.space import members
from sweeps.sweep import Sweep, sweep_from_mapping
from sweeps.words import duration
from trainables.build import build_task
from trainables.catalog import resolve
from trainables.spec import SpecError

__all__ = ["Study", "make_study"]

USUAL_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Study:
    """What `lratlas band` is about to run.

    Attributes:
        sweep: the study.
        plan: its plan, with the time that was measured.
        design: what was chosen.
        trial: what is known about the task.
        cost: what its training costs; None where the budget is in members and nothing was timed.
        notes: what was chosen and why, and what should be known.
    """

    sweep: Sweep
    plan: Plan
    design: Design
    trial: Trial
    cost: Calibration | None
    notes: tuple[str, ...]


def make_study(wish: Wish, budget: Budget, changes: Sequence[str], resources: Resources, *, ray: bool) -> Study:
    """Try the task out, time it, and lay the grid.

    Args:
        wish: without faults.
        budget: what the study may cost.
        changes: `--set key=value`.
        resources: what there is to train on.
        ray: whether the study runs on Ray, and not one pack after another.

    Returns:
        The study; nothing is written yet.

    Raises:
        SpecError: the task does not work, the sweep has faults, or the budget is too small.
    """
    takes = "data_seed" in inspect.signature(resolve(wish.target)).parameters
    first = designs(wish)[-1]

    def sweep_of(design: Design, batch_size: int, per_epoch: int) -> Sweep:
        mapping = design.mapping(batch_size=batch_size, per_epoch=per_epoch, takes_data_seed=takes)
        changed, faults = override(mapping, changes)
        return sweep_from_mapping(changed, faults=faults)

    batch = wish.batch_size or SAMPLES
    recipe = members(sweep_of(first, batch, 1))[0].recipe
    trial = try_out(recipe, any_batch=wish.batch_size is None and recipe.batch_size == SAMPLES)
    batch = wish.batch_size or _usual_batch(trial.train)
    per_epoch = max(1, trial.train // batch)
    cost = None
    lanes = max(1, resources.cores) if ray else 1
    if budget.seconds is not None:
        sweep = sweep_of(first, batch, per_epoch)
        check_resources(sweep)
        options = RunOptions.of(sweep.run, cores=1)
        if sweep.run.gpus_per_pack:
            lanes = max(1, int(resources.gpus / sweep.run.gpus_per_pack))
        # All rows in one pack: a stack of many rows is what is to be timed.
        pack = _plan(sweep, replace(resources, cores=1)).packs[0]
        cost = calibrate(pack, trial, executor=options.executor, device=options.device)

    def seconds(design: Design) -> float:
        return 0.0 if cost is None else cost.seconds(design, lanes, ray=ray)

    if ray:
        build_task.cache_clear()  # the workers hold data of their own
    design = fitting(wish, budget, seconds)
    notes = []
    if design is None:
        design = designs(wish)[-1]
        if not (wish.seeds and wish.per_decade):
            raise SpecError([_too_small(design, budget, seconds(design))])
        notes.append(f"--seeds and --per-decade decide, not --budget: {_size(design, seconds(design))}")
    sweep = sweep_of(design, batch, per_epoch)
    made = _plan(sweep, resources)
    if cost is not None:
        made = replace(made, estimated_seconds=seconds(design))
    return Study(
        sweep=sweep,
        plan=made,
        design=design,
        trial=trial,
        cost=cost,
        notes=(*notes, *_choices(design, budget, cost, seconds(design)), *trial.notes),
    )


def _plan(sweep: Sweep, resources: Resources) -> Plan:
    return plan(sweep, cores=resources.cores, gpus=resources.gpus, memory_bytes=resources.memory_bytes)


def _choices(design: Design, budget: Budget, cost: Calibration | None, seconds: float) -> list[str]:
    """What was chosen and why."""
    wish = design.wish
    low, high = design.lrs[0], design.lrs[-1]
    small = " and ".join(f"{lr:.3g}" for lr in design.finetune_lrs)
    if not wish.finetune_lrs:
        small += " (the grid's lowest, and one a third of the way up)" if "and" in small else " (a third of the way up)"
    notes = [
        f"grid: {len(design.lrs)} initial rates from {low:.3g} to {high:.3g} x {design.seeds} seeds, "
        f"{wish.steps:,} steps, then {design.finetune_steps:,} at {small}"
    ]
    if cost is not None:
        notes.append(
            f"timed: {1e3 * cost.step_seconds:.3g} ms for a step of one network ({cost.rows} side by side), so this "
            f"takes about {duration(seconds)}"
            + ("" if budget.seconds is None else f" of the {_exactly(budget.seconds)} allowed")
        )
    return notes


def _too_small(design: Design, budget: Budget, seconds: float) -> str:
    needed = _size(design, seconds)
    found = f"{budget.members} members" if budget.members else _exactly(budget.seconds or 0.0)
    return (
        f"--budget must hold at least the smallest study, {len(design.lrs)} initial rates x {design.seeds} seeds, "
        f"{needed}, found {found}; give more, fewer --steps, or a shorter range by --lr-low and --lr-high"
    )


def _exactly(seconds: float) -> str:
    """A time that was given, not estimated."""
    return f"{seconds:g} s" if seconds < 120 else duration(seconds)


def _size(design: Design, seconds: float) -> str:
    return f"{design.members} members" + (f" in about {duration(seconds)}" if seconds else "")


def _usual_batch(train: int) -> int:
    """128, or a power of two of at most an eighth of the data."""
    return min(USUAL_BATCH, 1 << max(0, (train // 8).bit_length() - 1))
