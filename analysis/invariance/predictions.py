"""What the runs of each schedule predict, step by step, as the test of functions takes it."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.decay.predictions import intrinsic_lr
from analysis.decay.schedules import Level
from analysis.invariance.courses import Course, Network
from analysis.invariance.functions import Snapshot

__all__ = ["snapshots_of"]

Ints = npt.NDArray[np.int64]

Past = tuple[float, tuple[Level, ...]]
"""All that was done up to a step: momentum, and the stretches, the last one cut off there."""


def snapshots_of(network: Network) -> list[Snapshot]:
    """Predicted classes of all runs, by schedule and step.

    Runs belong to one schedule where everything up to that step was done alike: momentum, rates, decays, initial scale.

    Args:
        network: one of the study's.

    Returns:
        Snapshots at which weight decay is on and the learning rate constant; the step counts from the schedule's last
        change. All are about the inputs that every run predicted; a run that did not predict most of them is left out.
    """
    courses = {course.member_id: course for course in network.courses}
    table = _predictions(network.labels)
    groups: dict[tuple[Past, int], dict[int, Ints]] = {}
    for (member_id, at), classes in zip(table.index, table.to_numpy(dtype=np.int64), strict=True):
        course, step = courses[str(member_id)], int(at)
        past = _past(course, step)
        if past[1][-1].weight_decay > 0 and past[1][-1].constant:
            # a shared beginning is one run, whoever continues it
            groups.setdefault((past, step), {}).setdefault(course.unit, classes)
    names = _names(past for past, _ in groups)
    return [
        Snapshot(
            schedule=names[past],
            intrinsic_lr=intrinsic_lr(past[1][-1], past[0]),
            step=step - past[1][-1].start,
            labels=np.stack(list(runs.values())),
            seeds=np.array(list(runs)),
        )
        for (past, step), runs in groups.items()
    ]


def _predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """Class by (member, step) and input, of the split that most rows are about."""
    if rows.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []]))
    rows = rows[(rows["split"] == rows["split"].mode().iloc[0]) & rows["value"].notna()]
    keys = rows["key"].astype("category").cat.remove_unused_categories().cat
    inputs = keys.categories.astype(np.int64).to_numpy()[keys.codes.to_numpy()]
    plain = pd.DataFrame(
        {"member_id": rows["member_id"].astype(str), "step": rows["step"], "input": inputs, "value": rows["value"]}
    )
    wide = plain.pivot_table(index=["member_id", "step"], columns="input", values="value", aggfunc="last", sort=False)
    wide = wide.sort_index(axis=1)
    known = wide.notna()
    whole = known[known.sum(axis=1) >= known.sum(axis=1).max() / 2]
    shared = whole.columns[whole.all()]
    found: pd.DataFrame = wide.loc[whole.index, shared]
    return found if len(shared) else found.iloc[:0]


def _past(course: Course, step: int) -> Past:
    """What a member had done by a step."""
    levels = [level for level in course.schedule.levels if level.start < max(step, 1)]
    last = levels[-1]
    cut = Level(
        start=last.start,
        stop=min(step, last.stop),
        lr=last.lr,
        weight_decay=last.weight_decay,
        kick=last.kick,
        constant=last.constant,
    )
    return course.schedule.momentum, (*levels[:-1], cut)


def _names(pasts: Iterable[Past]) -> dict[Past, str]:
    """Words that name schedules in tables and figures: as few digits as tell them apart, the last step left out."""
    known = list(dict.fromkeys(pasts))
    momenta = {momentum for momentum, _ in known}
    alike = {_without_end(past) for past in known}
    named: dict[Past, str] = {}
    for digits in (3, 6, 17):
        named = {past: _words(past, digits, with_momentum=len(momenta) > 1) for past in known}
        if len(set(named.values())) == len(alike):
            break
    return named


def _without_end(past: Past) -> tuple[object, ...]:
    momentum, levels = past
    last = levels[-1]
    return momentum, levels[:-1], last.start, last.lr, last.weight_decay, last.kick


def _words(past: Past, digits: int, *, with_momentum: bool) -> str:
    momentum, levels = past
    parts = []
    for level in levels:
        scale = f", weights x {level.kick:.{digits}g}" if level.kick != 1 else ""
        until = f" to {level.stop:,}" if level is not levels[-1] else ""
        parts.append(f"LR {level.lr:.{digits}g}, WD {level.weight_decay:.{digits}g}{scale}{until}")
    return "; ".join(parts) + (f", momentum {momentum:g}" if with_momentum else "")
