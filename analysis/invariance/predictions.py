"""What the runs of each schedule predict, step by step, as the test of functions takes it."""

import numpy as np
import pandas as pd

from analysis.decay.schedules import Level
from analysis.invariance.courses import Course, Network
from analysis.invariance.functions import Snapshot

__all__ = ["snapshots_of"]


def snapshots_of(network: Network) -> list[Snapshot]:
    """Predicted classes of all runs, by schedule and step.

    Runs belong to one schedule where everything up to that step was done alike: rates, decays, initial scale.

    Args:
        network: one of the study's.

    Returns:
        Snapshots at which weight decay is on; the step counts from the schedule's last change.
    """
    courses = {course.member_id: course for course in network.courses}
    groups: dict[tuple[str, int], list[tuple[int, pd.Series]]] = {}
    facts: dict[tuple[str, int], tuple[float, int]] = {}
    rows = network.labels
    for (member_id, at), group in rows.groupby(["member_id", "step"], observed=True):
        course, step = courses[str(member_id)], int(str(at))
        level = _level_at(course, step)
        if level.weight_decay <= 0 or not level.constant:
            continue
        key = (_past(course, step), step)
        classes = group.set_index(group["key"].astype(str).astype(int))["value"].sort_index()
        if all(unit != course.unit for unit, _ in groups.setdefault(key, [])):
            groups[key].append((course.unit, classes))  # a shared beginning is one run, whoever continues it
        facts[key] = (course.law(level), step - level.start)
    return [
        Snapshot(
            schedule=name,
            intrinsic_lr=facts[name, step][0],
            step=facts[name, step][1],
            labels=np.stack([classes.to_numpy(dtype=np.int64) for _, classes in runs]),
            seeds=np.array([unit for unit, _ in runs]),
        )
        for (name, step), runs in groups.items()
    ]


def _level_at(course: Course, step: int) -> Level:
    """The stretch that a step, counted as done, belongs to."""
    return next(level for level in course.schedule.levels if level.start < step <= level.stop)


def _past(course: Course, step: int) -> str:
    """All that was done up to a step, in words that name a schedule in tables and figures."""
    parts = []
    for level in course.schedule.levels:
        if level.start >= step:
            break
        scale = f", weights x {level.kick:.3g}" if level.kick != 1 else ""
        words = f"LR {level.lr:.3g}, WD {level.weight_decay:.3g}{scale}"
        parts.append(words if level.stop >= step else f"{words} to {level.stop:,}")
    return "; ".join(parts)
