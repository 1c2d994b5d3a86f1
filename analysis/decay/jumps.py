"""The jump at a decay: effective learning rate, angle per step and gradient noise before, just after and at the end.

All values are ratios to the run's own equilibrium before the decay, the mean over the last 30 % of the level before;
"the end" is the mean over the last 30 % of the level after. "Just after" is the first interval that lies behind the
decay, so it contains the first steps of the recovery: short intervals show the factor more exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.decay.events import Event
from analysis.decay.predictions import angle_ratio, course, equilibrium_ratio, just_after
from analysis.estimates import Estimate, finite_or_none, mean_estimate
from analysis.history import history
from analysis.study import Study

__all__ = ["WHOLE", "Jump", "find_jumps", "level_means", "traces_of", "whole_group"]

Floats = npt.NDArray[np.float64]

WHOLE = ("scale_invariant", "trained")
"""Groups that stand for all traced tensors; only of the first does the theory speak."""

_KEYS = ("effective_lr", "angle", "unit_grad_norm_sq")


@dataclass(frozen=True, kw_only=True)
class Jump:
    """What a decay does to one layer, or to all of them together.

    Attributes:
        event: the decay.
        group: the layer, or one of `WHOLE`.
        just_after: effective LR of the first interval after the decay by that before.
        predicted_just_after: the factor of the LR (and of a kick).
        predicted_interval: the same averaged over that first interval, in which the recovery has begun; NaN without
            weight decay before.
        interval: steps in it.
        at_end: effective LR at the end of the level after by that before.
        predicted_at_end: sqrt(product factor / noise ratio), the noise ratio being each run's own; NaN where weight
            decay is off.
        agreement: `at_end` by its prediction, run by run.
        angle: rms angle per step at the end by that before.
        predicted_angle: sqrt(product factor), whatever the noise.
        noise: E[G], mean squared gradient at unit norm, at the end by that before.
    """

    event: Event
    group: str
    just_after: Estimate
    predicted_just_after: float
    predicted_interval: float
    interval: int
    at_end: Estimate
    predicted_at_end: Estimate
    agreement: Estimate
    angle: Estimate
    predicted_angle: float
    noise: Estimate

    def as_json(self) -> dict[str, Any]:
        """The jump as JSON holds it."""
        return {
            "group": self.group,
            "effective_lr_just_after": self.just_after.as_json(),
            "predicted_just_after": self.predicted_just_after,
            "predicted_over_first_interval": finite_or_none(self.predicted_interval),
            "first_interval_steps": self.interval,
            "effective_lr_at_end": self.at_end.as_json(),
            "predicted_at_end": self.predicted_at_end.as_json(),
            "at_end_by_prediction": self.agreement.as_json(),
            "angle_at_end": self.angle.as_json(),
            "predicted_angle": finite_or_none(self.predicted_angle),
            "noise_at_end": self.noise.as_json(),
        }


def traces_of(study: Study, members: Sequence[str]) -> pd.DataFrame:
    """The `trace` probes of some members over their whole histories, one row for each group and interval.

    Args:
        study: the study.
        members: ids.

    Returns:
        Columns `member_id, step, group, n` and those of `effective_lr, angle, unit_grad_norm_sq` that were measured
        (the others are NaN), by member and step; empty where nothing was traced.
    """
    probes = study.tables.probes
    kept = (probes["probe"] == "trace") & (probes["split"] == "train") & probes["key"].isin(_KEYS)
    columns = ["member_id", "step", "group", "n", *_KEYS]
    if not kept.any() or not members:
        return pd.DataFrame(columns=columns)
    rows = history(probes.loc[kept, ["member_id", "step", "group", "key", "value", "n"]], study.tables.members, members)
    rows = rows.astype({"key": str, "group": str})
    index = ["member_id", "step", "group"]
    wide = rows.pivot(index=index, columns="key", values="value")
    wide["n"] = rows.groupby(index, observed=True)["n"].max().reindex(wide.index)
    wide = wide.reset_index().rename_axis(columns=None)
    found: pd.DataFrame = wide.reindex(columns=columns)
    return found


def find_jumps(traces: pd.DataFrame, events: Sequence[Event], confidence: float) -> tuple[Jump, ...]:
    """Measure the jump of every layer at every decay.

    Args:
        traces: from `traces_of`, of at least the events' members.
        events: the decays.
        confidence: nominal coverage of the intervals; seeds are the units.

    Returns:
        For each event its groups, all tensors together first; events without a trace on both sides are left out.
    """
    if traces.empty:
        return ()
    by_member = dict(iter(traces.groupby("member_id", observed=True)))
    jumps: list[Jump] = []
    for event in events:
        frames = [by_member[name].assign(unit=place) for place, name in enumerate(event.members) if name in by_member]
        if frames:
            jumps += _of_event(pd.concat(frames, ignore_index=True), event, confidence)
    return tuple(jumps)


def whole_group(jumps: Sequence[Jump]) -> tuple[Jump, ...]:
    """Those jumps that are about all traced tensors together."""
    return tuple(jump for jump in jumps if jump.group in WHOLE)


def _of_event(rows: pd.DataFrame, event: Event, confidence: float) -> list[Jump]:
    before, after = event.decay.before, event.decay.after
    step, start = rows["step"], rows["step"] - rows["n"]
    old = level_means(rows[(start >= before.start) & (step <= before.stop)], before.tail)
    behind = rows[(start >= after.start) & (step <= after.stop)].sort_values("step", kind="stable")
    first = behind.groupby(["group", "unit"])["effective_lr"].first()
    interval = int(behind["n"].iloc[0]) if len(behind) else 0
    new = level_means(behind, after.tail)
    clusters = event.arm.clusters[list(event.units)]
    jumps = []
    for group in sorted(set(old.index.get_level_values(0)), key=lambda name: (name not in WHOLE, name)):
        tables = [frame.xs(group) if group in frame.index else frame.iloc[:0].droplevel(0) for frame in (old, new)]
        was, now = (frame.reindex(range(len(event.units))) for frame in tables)
        at_once = (first.xs(group) if group in first.index else first.iloc[:0].droplevel(0)).reindex(was.index)
        noise = (now["unit_grad_norm_sq"] / was["unit_grad_norm_sq"]).to_numpy(dtype=np.float64)
        at_end = (now["effective_lr"] / was["effective_lr"]).to_numpy(dtype=np.float64)
        predicted = np.array([equilibrium_ratio(event.decay, ratio) for ratio in noise])
        columns = {
            "just_after": (at_once / was["effective_lr"]).to_numpy(dtype=np.float64),
            "at_end": at_end,
            "predicted_at_end": predicted,
            "agreement": at_end / predicted,
            "angle": (now["angle"] / was["angle"]).to_numpy(dtype=np.float64),
            "noise": noise,
        }
        if not np.isfinite(columns["just_after"]).any() and not np.isfinite(columns["angle"]).any():
            continue
        estimates = {name: mean_estimate(values, clusters, confidence) for name, values in columns.items()}
        jumps.append(
            Jump(
                event=event,
                group=group,
                predicted_just_after=just_after(event.decay),
                predicted_interval=_over_interval(event, interval, estimates["noise"].value),
                interval=interval,
                predicted_angle=angle_ratio(event.decay),
                **estimates,
            )
        )
    return jumps


def _over_interval(event: Event, steps: int, noise: float) -> float:
    """Predicted mean ratio over the first steps after a decay."""
    if not steps:
        return np.nan
    since = np.arange(steps, dtype=np.float64)
    return float(course(event.decay, event.momentum, since, noise if np.isfinite(noise) else 1.0).mean())


def level_means(rows: pd.DataFrame, tail: int) -> pd.DataFrame:
    """Means over a level's end, by layer and run.

    Args:
        rows: of one level, from `traces_of`, with the column `unit` added.
        tail: the step after which the end begins; where no interval ends later, the last one is taken.

    Returns:
        Columns `weight` (steps), `effective_lr`, `unit_grad_norm_sq` and `angle` (root mean square), by group and unit.
    """
    last = rows.groupby(["group", "unit"])["step"].transform("max")
    kept = rows[(rows["step"] > tail) | (rows["step"] == last)]
    weight = kept["n"].astype(np.float64)
    sums = pd.DataFrame(
        {
            "group": kept["group"],
            "unit": kept["unit"],
            "weight": weight,
            "effective_lr": weight * kept["effective_lr"],
            "unit_grad_norm_sq": weight * kept["unit_grad_norm_sq"],
            "angle": weight * kept["angle"] ** 2,
        }
    )
    totals = sums.groupby(["group", "unit"]).sum(min_count=1)
    means = totals.div(totals["weight"], axis=0)
    return means.assign(angle=np.sqrt(means["angle"]))
