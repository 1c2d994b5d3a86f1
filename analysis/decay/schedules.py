"""Schedules as levels, stretches of constant learning rate and weight decay, and the decays between them.

What a phase is called and how a schedule is cut into phases does not matter: a drop by a curve's milestone is the same
decay as one between two phases.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.arms import lr_text
from trainables.curves import Curve, stretches

__all__ = ["Decay", "Level", "Schedule", "level_words", "parse_schedule", "schedule_table"]

_SAME = 1e-9
"""Relative difference below which two learning rates are one: JSON keeps doubles, products of factors do not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A stretch of training.

    Attributes:
        start: steps done before it.
        stop: steps done at its end.
        lr: learning rate, the phase's own where it changes within the stretch.
        weight_decay: L2 coefficient.
        kick: factor on the scale-invariant weights at its start.
        constant: whether the learning rate keeps its value throughout.
    """

    start: int
    stop: int
    lr: float
    weight_decay: float
    kick: float = 1.0
    constant: bool = True

    @property
    def steps(self) -> int:
        """Its length."""
        return self.stop - self.start

    @property
    def tail(self) -> int:
        """The step after which its last 30 % begin: where equilibrium values are read."""
        return self.tail_of(0.3)

    def tail_of(self, share: float) -> int:
        """The step after which its last part begins; at least one step."""
        return self.stop - max(1, round(share * self.steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class Decay:
    """A fall of learning rate, weight decay or both between two constant levels; neither rises.

    Attributes:
        before: the level it ends.
        after: the level it begins.
    """

    before: Level
    after: Level

    @property
    def step(self) -> int:
        """Steps done before it."""
        return self.after.start

    @property
    def lr_factor(self) -> float:
        """New learning rate by old."""
        return self.after.lr / self.before.lr

    @property
    def wd_factor(self) -> float:
        """New weight decay by old; 1 where there is none before and after."""
        return self.after.weight_decay / self.before.weight_decay if self.before.weight_decay else 1.0

    @property
    def words(self) -> str:
        """What falls: `LR x 0.1`, `WD x 0.1`, `LR x 0.1, WD off`."""
        parts = [] if _same(self.lr_factor, 1) else [f"LR x {self.lr_factor:.3g}"]
        if not _same(self.wd_factor, 1):
            parts.append(f"WD x {self.wd_factor:.3g}" if self.wd_factor else "WD off")
        if self.after.kick != 1:
            parts.append(f"weights x {self.after.kick:.3g}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What a member's schedule does, in levels.

    Attributes:
        levels: at least one; neighbours differ.
        momentum: heavy-ball coefficient.
    """

    levels: tuple[Level, ...]
    momentum: float = 0.0

    @property
    def steps(self) -> int:
        """Total length."""
        return self.levels[-1].stop

    @property
    def first(self) -> Level:
        """The first constant level, which a warm-up may precede; the first of all where none is constant."""
        return next((level for level in self.levels if level.constant), self.levels[0])

    @property
    def last(self) -> Level:
        """The last level."""
        return self.levels[-1]

    @property
    def decays(self) -> tuple[Decay, ...]:
        """All decays, in order."""
        return tuple(
            Decay(before=before, after=after)
            for before, after in itertools.pairwise(self.levels)
            if before.constant and after.constant and _falls(before, after)
        )

    @property
    def only_decays(self) -> bool:
        """Whether from the first constant level on nothing changes but by decays: then they say everything."""
        later = [level for level in self.levels if level.start >= self.first.start]
        return self.first.constant and len(self.decays) == len(later) - 1


def parse_schedule(phases: str | Sequence[Mapping[str, Any]], momentum: float = 0.0) -> Schedule:
    """Read a member's schedule.

    Args:
        phases: the column `phases` of the table `members`: a JSON list, or what it says. Each phase has `steps`, `lr`,
            and may have `weight_decay`, `kick` and `curve`.
        momentum: the member's.

    Returns:
        The schedule; neighbouring stretches that train alike are one level.
    """
    content: Sequence[Mapping[str, Any]] = json.loads(phases) if isinstance(phases, str) else phases
    levels: list[Level] = []
    start = 0
    for phase in content:
        steps, curve = int(phase["steps"]), Curve(**(phase.get("curve") or {}))
        kick, begun = float(phase.get("kick") or 1.0), 0
        parts = stretches(curve, steps)
        for number, stretch in enumerate(parts):
            if number + 1 < len(parts) and stretch.stop - begun == 1 and parts[number + 1].factor is None:
                continue  # a curve's first update, still at the full rate, is no level: it belongs to the curve
            factor = 1.0 if stretch.factor is None else stretch.factor
            level = Level(
                start=start + begun,
                stop=start + stretch.stop,
                lr=float(phase["lr"]) * factor,
                weight_decay=float(phase.get("weight_decay") or 0.0),
                kick=kick if begun == 0 else 1.0,
                constant=stretch.factor is not None,
            )
            begun = stretch.stop
            _append(levels, level)
        start += steps
    return Schedule(levels=tuple(levels), momentum=momentum)


def schedule_table(members: pd.DataFrame) -> pd.DataFrame:
    """The schedules of all members, one row each.

    Args:
        members: the table `members`; at least `member_id` and `phases`.

    Returns:
        Columns `member_id, momentum, initial_lr, initial_weight_decay, final_lr, final_weight_decay, steps, n_decays,
        decay_steps, lr_factors, wd_factors, kicks, only_decays`; lists are tuples, `kicks` has one factor per level.
    """
    rows = []
    momenta = members["momentum"] if "momentum" in members else pd.Series(0.0, index=members.index)
    for member_id, phases, momentum in zip(members["member_id"], members["phases"], momenta, strict=True):
        schedule = parse_schedule(phases, float(momentum))
        rows.append(
            {
                "member_id": member_id,
                "momentum": schedule.momentum,
                "initial_lr": schedule.first.lr,
                "initial_weight_decay": schedule.first.weight_decay,
                "final_lr": schedule.last.lr,
                "final_weight_decay": schedule.last.weight_decay,
                "steps": schedule.steps,
                "n_decays": len(schedule.decays),
                "decay_steps": tuple(decay.step for decay in schedule.decays),
                "lr_factors": tuple(decay.lr_factor for decay in schedule.decays),
                "wd_factors": tuple(decay.wd_factor for decay in schedule.decays),
                "kicks": tuple(level.kick for level in schedule.levels),
                "only_decays": schedule.only_decays,
            }
        )
    return pd.DataFrame(rows)


def level_words(level: Level) -> str:
    """A level's two numbers: `LR 0.1, WD 5e-4`."""
    return f"LR {lr_text(level.lr)}, WD {lr_text(level.weight_decay)}"


def _append(levels: list[Level], level: Level) -> None:
    """Add a level, or lengthen the last one where nothing changes."""
    last = levels[-1] if levels else None
    alike = (
        last is not None
        and last.constant
        and level.constant
        and level.kick == 1
        and _same(last.lr, level.lr)
        and _same(last.weight_decay, level.weight_decay)
    )
    if not alike or last is None:
        levels.append(level)
        return
    levels[-1] = Level(
        start=last.start, stop=level.stop, lr=last.lr, weight_decay=last.weight_decay, kick=last.kick, constant=True
    )


def _falls(before: Level, after: Level) -> bool:
    """Whether something falls and nothing rises."""
    pairs = ((before.lr, after.lr), (before.weight_decay, after.weight_decay))
    rises = any(new > old and not _same(new, old) for old, new in pairs)
    return not rises and any(new < old and not _same(new, old) for old, new in pairs)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _SAME * max(abs(a), abs(b))
