"""Runs that reach a low training loss and leave it again: what weight decay does where there is no gradient noise.

Without noise the norm of scale-invariant weights only shrinks, the effective learning rate grows until it is no longer
stable, and the loss jumps up (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916). Counted are the times the training loss
crosses a level upwards, stretch by stretch of the schedule.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.decay.runs import DecayArm
from analysis.decay.schedules import Level, level_words
from analysis.history import history
from analysis.study import Study

__all__ = ["LATE", "Excursions", "excursions_of", "upcrossings"]

Floats = npt.NDArray[np.float64]

LATE = 0.75
"""Share of a stretch, at its end, in which crossings are counted a second time: beyond the way down."""


@dataclass(frozen=True, kw_only=True)
class Excursions:
    """What the runs of one stretch of one schedule did.

    Attributes:
        arm: its arm.
        level: the stretch.
        runs: how many runs.
        reached: how many got below the threshold in it, or began below.
        first: mean step at which they first did; NaN where none did.
        lowest: lowest loss of any.
        crossings: upward crossings of the threshold in the stretch, mean over runs.
        late: the same in the last three quarters of the stretch.
        end: loss at its end, the largest of the runs.
    """

    arm: DecayArm
    level: Level
    runs: int
    reached: int
    first: float
    lowest: float
    crossings: float
    late: float
    end: float

    @property
    def words(self) -> str:
        """The stretch's rates."""
        return level_words(self.level)


def upcrossings(values: Floats, threshold: float) -> int:
    """How often a course goes from below a threshold to it or above.

    Args:
        values: [n] in time; NaN counts as neither.
        threshold: the level.

    Returns:
        The count.
    """
    return int(((values[:-1] < threshold) & (values[1:] >= threshold)).sum())


def excursions_of(study: Study, arms: Sequence[DecayArm]) -> list[Excursions]:
    """Count every run's crossings.

    Args:
        study: its `converged_loss` is the threshold.
        arms: of the study.

    Returns:
        One entry for each stretch of each schedule of arms in which some run got below the threshold and left again in
        its first stretch, of stretches that only end at different steps the longest; empty where none did.
    """
    threshold = study.settings.converged_loss
    found: list[Excursions] = []
    for arm in arms:
        done = [run for run in arm.runs if run.status == "completed"]
        longest = {run.schedule.levels: run.schedule for run in done}
        whole = [levels for levels in longest if not any(_begins(other, levels) for other in longest)]
        courses = history(study.tables.epochs, study.tables.members, [run.member_id for run in done])
        by_run = {str(key): group for key, group in courses.groupby("member_id", observed=True)}
        for levels in whole:
            runs = [by_run[run.member_id] for run in done if run.schedule.levels == levels and run.member_id in by_run]
            stretches = [_excursions(arm, level, runs, threshold) for level in levels]
            if runs and stretches[0].late > 0:
                found += stretches
    # what never leaves is shown beside what does
    if found:
        shown = {id(each.arm) for each in found}
        for arm in arms:
            if id(arm) in shown:
                found += _others(study, arm, [each for each in found if each.arm is arm], threshold)
    # trunks that only part at different steps are one: the longest says it all
    trunks: dict[tuple[object, ...], Excursions] = {}
    for each in sorted(found, key=lambda each: each.level.stop):
        level = each.level
        trunks[each.arm.number, replace(level, stop=0) if level.start == 0 else level] = each
    order = operator.attrgetter("arm.number", "level.start", "level.weight_decay", "level.lr")
    return sorted(trunks.values(), key=order)


def _others(study: Study, arm: DecayArm, known: Sequence[Excursions], threshold: float) -> list[Excursions]:
    """First stretches of the arm's other schedules, which did not leave."""
    done = [run for run in arm.runs if run.status == "completed"]
    firsts = {run.schedule.levels[0] for run in done} - {each.level for each in known}
    courses = history(study.tables.epochs, study.tables.members, [run.member_id for run in done])
    by_run = {str(key): group for key, group in courses.groupby("member_id", observed=True)}
    return [
        _excursions(
            arm,
            level,
            [by_run[run.member_id] for run in done if run.schedule.levels[0] == level and run.member_id in by_run],
            threshold,
        )
        for level in firsts
        if not any(level.start == each.level.start and level.stop < each.level.stop for each in known)
    ]


def _excursions(arm: DecayArm, level: Level, runs: Sequence[pd.DataFrame], threshold: float) -> Excursions:
    losses, firsts, late = [], [], []
    for run in runs:
        inside = run[(run["step"] > level.start) & (run["step"] <= level.stop)]
        values = inside["train_loss"].to_numpy(dtype=np.float64)
        steps = inside["step"].to_numpy(dtype=np.float64)
        losses.append(values)
        below = steps[values < threshold]
        firsts.append(below[0] if len(below) else np.nan)
        late.append(upcrossings(values[steps > level.stop - LATE * level.steps], threshold))
    known = [first for first in firsts if np.isfinite(first)]
    finite = [values[np.isfinite(values)] for values in losses]
    ends = [values[-1] for values in losses if len(values)]
    return Excursions(
        arm=arm,
        level=level,
        runs=len(runs),
        reached=len(known),
        first=float(np.mean(known)) if known else float("nan"),
        lowest=min((float(values.min()) for values in finite if len(values)), default=float("nan")),
        crossings=float(np.mean([upcrossings(values, threshold) for values in losses])) if losses else 0.0,
        late=float(np.mean(late)) if late else 0.0,
        end=float(np.max(ends)) if ends else float("nan"),
    )


def _begins(longer: tuple[Level, ...], levels: tuple[Level, ...]) -> bool:
    return len(longer) > len(levels) and longer[: len(levels)] == levels
