"""Runs that differ in their seed alone and whose weights were kept: what can be averaged, along and across runs."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.decay.schedules import Decay, Schedule, level_words
from analysis.invariance.courses import Course, Network

if TYPE_CHECKING:
    from trainables.checkpoint import Checkpoints

__all__ = ["SeedGroup", "schedule_words", "seed_groups"]

_MOST_CHANGES = 3
"""Schedules with more changes than this are told by their ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedGroup:
    """Runs of one recipe, one draw of the data and one schedule; each has its own initial weights and batch order.

    Attributes:
        schedule: what all of them do.
        data_seed: the draw of the data.
        window: weights in the average along each run, the largest that was kept of all.
        seeds: training seeds, ascending, at least two.
        member_ids: of the same runs.
        variant: the sweep's name for them; empty where there is none.
    """

    schedule: Schedule
    data_seed: int
    window: int
    seeds: tuple[int, ...]
    member_ids: tuple[str, ...]
    variant: str = ""

    def first(self, runs: int) -> "SeedGroup":
        """The group's first `runs` runs."""
        return replace(self, seeds=self.seeds[:runs], member_ids=self.member_ids[:runs])


def seed_groups(network: Network, checkpoints: "Checkpoints") -> tuple[SeedGroup, ...]:
    """Find what differs in its seed alone.

    Args:
        network: of a study.
        checkpoints: of its results folder.

    Returns:
        Groups of at least two finished runs of which the end and an average of the last weights before it were kept;
        the sweep's headline first, then by schedule and draw of the data.
    """
    members = network.study.tables.members.set_index("member_id")
    wanted = network.study.sweep.get("headline") or {}
    windows = _windows(network, checkpoints)
    found: dict[tuple[str, float, int], list[Course]] = {}
    for course in network.courses:
        if course.status == "completed" and course.member_id in windows:
            key = (_training(str(members.at[course.member_id, "phases"])), course.schedule.momentum, course.data_seed)
            found.setdefault(key, []).append(course)
    groups = []
    for (training, _, _), courses in found.items():
        shared = frozenset.intersection(*(windows[course.member_id] for course in courses))
        if len(courses) < 2 or not shared:
            continue
        ordered = sorted(courses, key=lambda course: course.seed)
        row = members.loc[ordered[0].member_id]
        variant = row.get("variant")
        group = SeedGroup(
            schedule=ordered[0].schedule,
            data_seed=ordered[0].data_seed,
            window=max(shared),
            seeds=tuple(course.seed for course in ordered),
            member_ids=tuple(course.member_id for course in ordered),
            variant=variant if isinstance(variant, str) else "",
        )
        other = not all(row.get(name) == value for name, value in wanted.items())
        rates = [(level.start, level.lr, level.weight_decay) for level in group.schedule.levels]
        groups.append(((other, rates, training, group.data_seed), group))
    return tuple(group for _, group in sorted(groups, key=lambda each: each[0]))


def schedule_words(schedule: Schedule) -> str:
    """A schedule in a few words.

    Args:
        schedule: any.

    Returns:
        Such as `LR 0.1, WD 5e-4, LR x 0.1 at step 3,000`.
    """
    levels = schedule.levels
    begin = level_words(levels[0]) + (f", weights x {levels[0].kick:.3g}" if levels[0].kick != 1 else "")
    if len(levels) - 1 > _MOST_CHANGES:
        return f"{begin}, after {len(levels) - 1} changes {level_words(levels[-1])}"
    changes = [Decay(before=before, after=after) for before, after in itertools.pairwise(levels)]
    return ", ".join([begin, *(f"{change.words} at step {change.step:,}" for change in changes if change.words)])


def _windows(network: Network, checkpoints: "Checkpoints") -> dict[str, frozenset[int]]:
    """Windows of the averages that end where a member does, by member whose end was kept too."""
    ends = {course.member_id: course.schedule.steps for course in network.courses}
    kept = checkpoints.entries()
    windows: dict[str, set[int]] = {}
    for member_id, name in kept:
        # an earlier phase may have left an average of its own: that is no average of the last weights
        if (
            name.startswith("swa@")
            and (member_id, "end") in kept
            and checkpoints.step((member_id, name)) == ends.get(member_id)
        ):
            windows.setdefault(member_id, set()).add(int(name.removeprefix("swa@")))
    return {member_id: frozenset(each) for member_id, each in windows.items()}


def _training(phases: str) -> str:
    """What phases do, whatever they are called: noise and the shape of curves included."""
    content: Sequence[dict[str, object]] = json.loads(phases)
    return json.dumps([{name: each[name] for name in sorted(each) if name != "name"} for each in content])
