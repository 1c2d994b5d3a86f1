"""Loss and error after a decay: how far they fall, and how much of that is lost again by the end.

The lowest of many noisy values is too low, and a rebound measured from it too high. So the step of the best is chosen
on the other clusters of seeds, and the seed left out is read at that step; every seed is left out once. The end is the
mean from the start of the last 30 % of the level, or from the best step where that is later: a course that only falls
has no rebound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.decay.events import Event
from analysis.estimates import Estimate, mean_estimate
from analysis.history import history
from analysis.study import Study

__all__ = ["Rebound", "ReboundVerdict", "courses_of", "cross_fitted_best", "find_rebounds"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class ReboundVerdict(StrEnum):
    """What the interval of a rebound allows one to say."""

    REBOUND = "rebound"
    NO_REBOUND = "no rebound"
    NOT_SIGNIFICANT = "not significant"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Rebound:
    """The course of one quantity around one decay.

    Attributes:
        event: the decay.
        quantity: a column of `epochs`, such as `test_error`.
        before: mean over the last 30 % of the level before.
        best: at the best step after the decay, chosen on other seeds.
        end: at the end of the level after.
        drop: before - best.
        rebound: end - best.
        best_step: the step that all seeds together choose.
        margin: rebounds below it count as none; NaN for a loss, of which no margin is known.
    """

    event: Event
    quantity: str
    before: Estimate
    best: Estimate
    end: Estimate
    drop: Estimate
    rebound: Estimate
    best_step: int
    margin: float

    @property
    def is_error(self) -> bool:
        """True for an error, False for a loss."""
        return self.quantity.endswith("_error")

    @property
    def verdict(self) -> ReboundVerdict:
        """What may be said."""
        if not np.isfinite(self.rebound.low):
            return ReboundVerdict.UNKNOWN
        if self.rebound.high < self.margin:
            return ReboundVerdict.NO_REBOUND
        return ReboundVerdict.REBOUND if self.rebound.low > 0 else ReboundVerdict.NOT_SIGNIFICANT

    def as_json(self) -> dict[str, Any]:
        """The course as JSON holds it; errors are fractions."""
        names = ("before", "best", "end", "drop", "rebound")
        estimates = {name: getattr(self, name).as_json() for name in names}
        return {**estimates, "best_step": self.best_step, "verdict": str(self.verdict)}


def courses_of(study: Study, members: Sequence[str]) -> pd.DataFrame:
    """The learning curves of some members over their whole histories.

    Args:
        study: the study.
        members: ids.

    Returns:
        Columns `member_id, step, train_loss` and the watched split's error, by member and step.
    """
    columns = ["member_id", "step", "train_loss", f"{study.watched}_error"]
    return history(study.tables.epochs[columns], study.tables.members, members)


def find_rebounds(
    courses: pd.DataFrame, events: Sequence[Event], margin: float, confidence: float
) -> tuple[Rebound, ...]:
    """Measure every quantity around every decay.

    Args:
        courses: from `courses_of`, of at least the events' members.
        events: the decays.
        margin: practical size of a rebound of an error.
        confidence: nominal coverage of the intervals; seeds are the units.

    Returns:
        For each event its quantities; those not measured on both sides of the decay are left out.
    """
    quantities = [name for name in courses.columns if name not in ("member_id", "step")]
    by_member = dict(iter(courses.groupby("member_id", observed=True)))
    found = []
    for event in events:
        frames = [by_member[name].assign(unit=place) for place, name in enumerate(event.members) if name in by_member]
        if not frames:
            continue
        rows = pd.concat(frames, ignore_index=True)
        for name in quantities:
            rebound = _of_event(rows, event, name, margin, confidence)
            if rebound is not None:
                found.append(rebound)
    return tuple(found)


def cross_fitted_best(after: Floats, tail: int, clusters: Ints) -> tuple[Floats, Floats]:
    """Values at the best place and at the end, the best place being chosen without the seed that is read.

    Args:
        after: [U, S] values by seed and step after the decay, all finite.
        tail: first place of the end.
        clusters: [U] cluster of each seed; with one cluster the choice is made on the seeds that are read.

    Returns:
        [U] at the best place and [U] at the end: the mean from the later of the best place and `tail`.
    """
    best, end = np.empty(len(after)), np.empty(len(after))
    groups = np.unique(clusters)
    for group in groups:
        own = clusters == group
        place = int(after[~own if len(groups) > 1 else own].mean(axis=0).argmin())
        best[own] = after[own, place]
        end[own] = after[own, max(place, tail) :].mean(axis=1)
    return best, end


def _of_event(rows: pd.DataFrame, event: Event, quantity: str, margin: float, confidence: float) -> Rebound | None:
    before, after = event.decay.before, event.decay.after
    rows = rows[rows[quantity].notna()]
    # A loss is a mean over the interval that ends at its step: one across the decay belongs to neither side.
    begun = rows.groupby("unit")["step"].shift(fill_value=0) if quantity == "train_loss" else rows["step"] - 1
    old = rows[(begun >= before.start) & (rows["step"] <= before.stop)]
    new = rows[(begun >= after.start) & (rows["step"] <= after.stop)]
    last = old.groupby("unit")["step"].transform("max")
    level = old[(old["step"] > before.tail) | (old["step"] == last)].groupby("unit")[quantity].mean()
    table = new.pivot(index="unit", columns="step", values=quantity).reindex(level.index).dropna(how="all")
    table = table.dropna(axis=1)  # steps at which every seed was measured
    if table.empty:
        return None
    values, was = table.to_numpy(dtype=np.float64), level[table.index].to_numpy(dtype=np.float64)
    steps = table.columns.to_numpy(dtype=np.int64)
    clusters = event.arm.clusters[np.array(event.units)[table.index.to_numpy(dtype=np.int64)]]
    tail = min(int(np.searchsorted(steps, after.tail, side="right")), len(steps) - 1)
    best, end = cross_fitted_best(values, tail, clusters)
    columns = {"before": was, "best": best, "end": end, "drop": was - best, "rebound": end - best}
    return Rebound(
        event=event,
        quantity=quantity,
        best_step=int(steps[values.mean(axis=0).argmin()]),
        margin=margin if quantity.endswith("_error") else np.nan,
        **{name: mean_estimate(each, clusters, confidence) for name, each in columns.items()},
    )
