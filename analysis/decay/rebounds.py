"""Loss and error after a decay: how far they fall, and how much of that is lost again by the end.

The lowest of many noisy values is too low, and a rebound measured from it too high. So the rows after the decay are
averaged over windows that widen with the time since (the fall is fast, the rebound slow), the best window is chosen on
the other clusters of seeds, and the seed left out is read there; every seed is left out once. The last 30 % of the
level are the end. Intervals are those of comparisons with the best (`gain`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.decay.choice import choose
from analysis.decay.events import Event
from analysis.estimates import Estimate, mean_estimate
from analysis.gain import find_gain
from analysis.history import history
from analysis.study import Study

__all__ = ["Rebound", "ReboundVerdict", "courses_of", "find_rebounds", "windows"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


_GROWTH = 1.5
"""Width of a window by its distance from the decay: a dozen windows over a hundred rows."""


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
        best: in the best window between the decay and the end, chosen on other seeds.
        end: at the end of the level after.
        drop: before - best.
        rebound: end - best.
        best_steps: first and last step of the window that all seeds together choose.
        margin: rebounds below it count as none; NaN for a loss, of which no margin is known.
    """

    event: Event
    quantity: str
    before: Estimate
    best: Estimate
    end: Estimate
    drop: Estimate
    rebound: Estimate
    best_steps: tuple[int, int]
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
        return {**estimates, "best_steps": list(self.best_steps), "verdict": str(self.verdict)}


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
    courses: pd.DataFrame, events: Sequence[Event], *, margin: float, confidence: float, generator: np.random.Generator
) -> tuple[Rebound, ...]:
    """Measure every quantity around every decay.

    Args:
        courses: from `courses_of`, of at least the events' members.
        events: the decays.
        margin: practical size of a rebound of an error.
        confidence: nominal coverage of the intervals; seeds are the units.
        generator: for the bootstrap.

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
            rebound = _of_event(rows, event, name, margin, confidence, generator)
            if rebound is not None:
                found.append(rebound)
    return tuple(found)


def windows(rows: int) -> tuple[tuple[int, int], ...]:
    """Cut rows into windows whose ends lie half as far again from the decay as their beginnings.

    Args:
        rows: their number, at least 1.

    Returns:
        First row and one past the last of each: (0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 9) ...
    """
    edges = [0, 1]
    while edges[-1] < rows:
        edges.append(max(edges[-1] + 1, int(edges[-1] * _GROWTH)))
    edges[-1] = rows
    return tuple(itertools.pairwise(edges))


def _of_event(
    rows: pd.DataFrame, event: Event, quantity: str, margin: float, confidence: float, generator: np.random.Generator
) -> Rebound | None:
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
    if tail < 1:
        return None  # one row cannot show a course
    cuts = windows(tail)
    means = np.stack([values[:, start:stop].mean(axis=1) for start, stop in cuts], axis=1)
    best = choose(means, means, clusters, confidence, generator)
    end = values[:, tail:].mean(axis=1)
    start, stop = cuts[best.place]
    return Rebound(
        event=event,
        quantity=quantity,
        before=mean_estimate(was, clusters, confidence),
        best=best.error,
        end=mean_estimate(end, clusters, confidence),
        drop=_above_best(was, means, clusters, confidence, generator),
        rebound=_above_best(end, means, clusters, confidence, generator),
        best_steps=(int(steps[start]), int(steps[stop - 1])),
        margin=margin if quantity.endswith("_error") else np.nan,
    )


def _above_best(
    values: Floats, means: Floats, clusters: Ints, confidence: float, generator: np.random.Generator
) -> Estimate:
    """How far [U] values lie above the best of [U, W] windows, paired by seed."""
    columns = np.column_stack([values, means])[..., None]
    is_window = np.arange(columns.shape[1])[:, None] > 0
    places = np.arange(columns.shape[1], dtype=np.float64)
    gain = find_gain(
        columns,
        columns,
        is_window,
        ~is_window,
        places,
        clusters,
        margin=0.0,
        confidence=confidence,
        generator=generator,
    )
    return gain.estimate if gain is not None else Estimate(np.nan, np.nan, np.nan, 0, confidence)
