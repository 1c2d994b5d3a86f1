"""One drop of the learning rate or of the weight decay, run by run, as the test of drops takes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.decay.predictions import course, just_after, recovery_steps, settled
from analysis.decay.schedules import Decay
from analysis.invariance.courses import Course, Network
from analysis.invariance.drop import LR, WEIGHT_DECAY

__all__ = ["Drops", "drops_of"]

Floats = npt.NDArray[np.float64]

_SAME = 1e-9
_AT_ONCE = 0.02
"""Change of the effective LR from the drop to an interval's end, half of which is in its mean, that is none yet."""
_MEASURED = {"elr": "effective_lr", "angle": "angle", "noise": "unit_grad_norm_sq"}


@dataclass(frozen=True, kw_only=True)
class Drops:
    """Runs with exactly one drop.

    Attributes:
        table: one row per run: `arm, factor, seed, loss_end`, and for each layer L `elr_before:L, elr_last:L,
            elr_after:L, elr_end:L, angle_before:L, angle_end:L, noise_before:L, noise_end:L`: means over the end of
            the stretch before the drop, the last recorded interval before it and the first one after it (NaN where it
            is so long that the norm has moved), and means over the end of the schedule.
            Where some of the settings that a drop starts from have both arms, only those.
        short: runs that were too short before or after the drop for an equilibrium, and are left out.
    """

    table: pd.DataFrame
    short: int


@dataclass(frozen=True, kw_only=True)
class _Drop:
    """One run's drop; drops of one `setting` differ only in seed and in what falls."""

    course: Course
    decay: Decay
    arm: str
    factor: float

    @property
    def setting(self) -> tuple[object, ...]:
        before, after = self.decay.before, self.decay.after
        start = (before.lr, before.weight_decay, before.kick, self.course.schedule.momentum)
        return (*start, after.start, after.stop, float(f"{self.factor:.6g}"))

    def has_equilibria(self, tail: float) -> bool:
        """Whether it is long enough before and after the drop."""
        momentum, after = self.course.schedule.momentum, self.decay.after
        recovered = after.tail_of(tail) - after.start >= recovery_steps(self.decay, momentum)
        return recovered and settled(self.decay.before, momentum)

    def is_at_once(self, step: Floats, n: Floats) -> npt.NDArray[np.bool_]:
        """Whether intervals begin with the drop or later, and end before the way back is felt."""
        since = step - self.decay.after.start
        moved = course(self.decay, self.course.schedule.momentum, since) / just_after(self.decay) - 1
        return (n <= since) & (np.abs(moved) <= _AT_ONCE)


def drops_of(network: Network, tail: float = 0.3) -> Drops:
    """Runs with exactly one drop, of one of the two.

    Args:
        network: one of the study's.
        tail: share of a stretch, at its end, over which its equilibrium is averaged.

    Returns:
        The runs.
    """
    dropped = [drop for each in network.courses if each.status == "completed" and (drop := _drop(each))]
    if not dropped:
        return Drops(table=pd.DataFrame(), short=0)
    long = [drop for drop in dropped if drop.has_equilibria(tail)]
    ids = {drop.course.member_id for drop in long}
    epochs, trace = network.epochs, network.trace
    epochs = epochs[epochs["member_id"].isin(ids)]
    wanted = trace["key"].isin(_MEASURED.values()) & trace["group"].isin(network.layers)
    trace = trace[wanted & trace["member_id"].isin(ids)]
    losses = {str(key): group for key, group in epochs.groupby("member_id", observed=True)}
    measured = dict(iter(trace.groupby(["member_id", "group", "key"], observed=True)))
    rows = []
    for drop in _in_both_arms(long):
        member_id, before, after = drop.course.member_id, drop.decay.before, drop.decay.after
        if member_id not in losses:
            continue
        own = losses[member_id]
        row: dict[str, object] = {
            "arm": drop.arm,
            "factor": drop.factor,
            "seed": drop.course.unit,
            "loss_end": own.loc[own["step"] > after.tail_of(tail), "train_loss"].mean(),
        }
        for layer in network.layers:
            for name, key in _MEASURED.items():
                step, n, value = _arrays(measured.get((member_id, layer, key)))
                old = value[(step > before.start) & (step <= before.stop)]
                late = value[(step > before.tail_of(tail)) & (step <= before.stop)]
                row[f"{name}_before:{layer}"] = _mean(late, name)
                row[f"{name}_end:{layer}"] = _mean(value[step > after.tail_of(tail)], name)
                if name == "elr":
                    row[f"elr_last:{layer}"] = _mean(old[-1:], name)
                    first = np.flatnonzero(step > after.start)[:1]
                    row[f"elr_after:{layer}"] = _mean(value[first[drop.is_at_once(step[first], n[first])]], name)
        rows.append(row)
    return Drops(table=pd.DataFrame(rows), short=len(dropped) - len(long))


def _in_both_arms(drops: Sequence[_Drop]) -> list[_Drop]:
    """Drops from settings that have both; all where none has: ends of unlike starts cannot be compared."""
    arms: dict[tuple[object, ...], set[str]] = {}
    for drop in drops:
        arms.setdefault(drop.setting, set()).add(drop.arm)
    both = [drop for drop in drops if len(arms[drop.setting]) == 2]
    return both or list(drops)


def _drop(course: Course) -> _Drop | None:
    """Which of the two falls, and by which factor; None for any other schedule."""
    decays, levels = course.schedule.decays, course.schedule.levels
    if len(decays) != 1 or len(levels) != 2 or levels[1].kick != 1 or levels[0].weight_decay <= 0:
        return None
    (decay,) = decays
    for arm, factor, other in (
        (LR, decay.lr_factor, decay.wd_factor),
        (WEIGHT_DECAY, decay.wd_factor, decay.lr_factor),
    ):
        if abs(other - 1) <= _SAME and factor > 0:
            return _Drop(course=course, decay=decay, arm=arm, factor=factor)
    return None


def _arrays(rows: pd.DataFrame | None) -> tuple[Floats, Floats, Floats]:
    """Steps at which intervals end, their lengths, and the means over them."""
    if rows is None:
        return np.empty(0), np.empty(0), np.empty(0)
    step, n, value = (rows[name].to_numpy(dtype=np.float64) for name in ("step", "n", "value"))
    return step, n, value


def _mean(values: Floats, name: str) -> float:
    """The mean; of angles the root mean square. NaN of nothing."""
    if not len(values):
        return float("nan")
    return float(np.sqrt((values**2).mean()) if name == "angle" else values.mean())
