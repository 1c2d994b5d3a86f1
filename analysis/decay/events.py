"""Decay events: one decay of one history, with the run of each seed that shows it longest.

Members that share a beginning share its decays: the first drop of a two-drop schedule is the same event as the only
drop of a one-drop schedule up to where they part. Each seed counts once in an event.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.arms import lr_text
from analysis.decay.predictions import recovery_steps, settled
from analysis.decay.runs import DecayArm, Run
from analysis.decay.schedules import Decay, Level

__all__ = ["Event", "events_of"]

Key = tuple[tuple[object, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Event:
    """A decay.

    Attributes:
        arm: the arm it belongs to.
        decay: what falls; its level after lasts as long as in the runs that are looked at.
        number: how many decays came before it.
        momentum: of the runs.
        members: ids of the runs, at most one for each unit.
        units: the unit of each.
    """

    arm: DecayArm
    decay: Decay
    number: int
    momentum: float
    members: tuple[str, ...]
    units: tuple[int, ...]

    @property
    def recovery(self) -> float:
        """Predicted steps to the new equilibrium."""
        return recovery_steps(self.decay, self.momentum)

    @property
    def reached(self) -> bool:
        """Whether the last 30 % of the level after begin after the predicted recovery."""
        return self.decay.after.tail - self.decay.step >= self.recovery

    @property
    def settled(self) -> bool:
        """Whether the level before was long enough for an equilibrium; of a later decay only its own level counts."""
        return settled(self.decay.before, self.momentum)

    @property
    def label(self) -> str:
        """The decay in words: `LR x 0.1 at step 4,000 from LR 0.1, WD 5e-4`."""
        before = self.decay.before
        start = f"from LR {lr_text(before.lr)}, WD {lr_text(before.weight_decay)}"
        return f"{self.decay.words} at step {self.decay.step:,} {start}"


def events_of(arm: DecayArm) -> tuple[Event, ...]:
    """Find an arm's decays.

    Args:
        arm: the arm; only its completed runs are looked at.

    Returns:
        The events, by initial learning rate, weight decay and step.
    """
    found: dict[Key, list[tuple[Run, int, Decay]]] = defaultdict(list)
    for run in arm.runs:
        if run.status != "completed":
            continue
        for number, decay in enumerate(run.schedule.decays):
            found[_key(run, decay)].append((run, number, decay))
    events = [_event(arm, shown) for shown in found.values()]
    return tuple(
        sorted(
            events,
            key=lambda event: (event.decay.before.lr, event.decay.before.weight_decay, event.decay.step, event.label),
        )
    )


def _key(run: Run, decay: Decay) -> Key:
    """Everything that happened until the decay, and the decay."""
    past = [_said(level, level.stop) for level in run.schedule.levels if level.stop <= decay.step]
    return (*past, _said(decay.after, None), (float(run.schedule.momentum),))


def _said(level: Level, stop: int | None) -> tuple[object, ...]:
    numbers = tuple(float(f"{number:.9g}") for number in (level.lr, level.weight_decay, level.kick))
    return (stop, *numbers, level.constant)


def _event(arm: DecayArm, shown: Sequence[tuple[Run, int, Decay]]) -> Event:
    """Each seed's longest run, cut to the longest level after the decay that more than half of the seeds have."""
    longest: dict[int, tuple[Run, int, Decay]] = {}
    for each in shown:
        known = longest.get(each[0].unit)
        if known is None or each[2].after.stop > known[2].after.stop:
            longest[each[0].unit] = each
    stops = sorted({decay.after.stop for _, _, decay in longest.values()}, reverse=True)
    counts = {stop: sum(decay.after.stop >= stop for _, _, decay in longest.values()) for stop in stops}
    most = max(counts.values())
    stop = next(stop for stop in stops if 2 * counts[stop] > most)  # a few seeds that went on make no event alone
    kept = [longest[unit] for unit in sorted(longest) if longest[unit][2].after.stop >= stop]
    run, number, decay = kept[0]
    after = decay.after
    shortened = Level(
        start=after.start, stop=stop, lr=after.lr, weight_decay=after.weight_decay, kick=after.kick, constant=True
    )
    return Event(
        arm=arm,
        decay=Decay(before=decay.before, after=shortened),
        number=number,
        momentum=run.schedule.momentum,
        members=tuple(run.member_id for run, _, _ in kept),
        units=tuple(run.unit for run, _, _ in kept),
    )
