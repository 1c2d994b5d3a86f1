"""The gain over regime 1, paired by seed, without the winner's curse.

Whoever picks the best of many learning rates and reads the gain off the same seeds finds one where there is none.
Here the best configuration on each side is chosen on all *other* clusters of seeds and its gain is read off the
cluster left out; every seed is left out once. The mean is an unbiased estimate of what the choice is worth on a new
seed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.contrasts import cluster_means, gap_interval
from analysis.estimates import Estimate, finite_or_none

__all__ = ["Gain", "Verdict", "find_gain"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Verdict(StrEnum):
    """What the interval of a gain allows one to say."""

    GAIN = "gain"
    NO_GAIN = "no gain"
    NOT_SIGNIFICANT = "not significant"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much lower the error is with the best rate outside regime 1 than with the best of regime 1.

    Attributes:
        estimate: the gain as a fraction of error, positive where leaving regime 1 helps.
        by_seed: [U] the gain of each seed at the choices made without it; NaN where it lacks a value.
        naive: what choosing and measuring on the same seeds would have claimed.
        margin: gains below it count as none when the interval excludes larger ones.
        rival_lr: the rate outside regime 1 that all seeds together choose.
        base_lr: the rate of regime 1 that all seeds together choose.
        base_quality: number of that baseline's quality.
    """

    estimate: Estimate
    by_seed: Floats
    naive: float
    margin: float
    rival_lr: float
    base_lr: float
    base_quality: int

    @property
    def verdict(self) -> Verdict:
        """What may be said."""
        value, low, high = self.estimate.value, self.estimate.low, self.estimate.high
        if not (np.isfinite(value) and np.isfinite(low)):
            return Verdict.UNKNOWN
        if low > 0:
            return Verdict.GAIN
        return Verdict.NO_GAIN if high < self.margin else Verdict.NOT_SIGNIFICANT

    def as_json(self) -> dict[str, Any]:
        """The gain as JSON holds it, in fractions."""
        return {
            **self.estimate.as_json(),
            "verdict": str(self.verdict),
            "naive": finite_or_none(self.naive),
            "rival_lr": self.rival_lr,
            "base_lr": self.base_lr,
        }


def find_gain(
    error: Floats,
    choosing: Floats,
    rivals: Flags,
    base: Flags,
    lrs: Floats,
    clusters: Ints,
    *,
    margin: float,
    confidence: float,
    generator: np.random.Generator,
) -> Gain | None:
    """Compare the best of one set of configurations with the best of another.

    Args:
        error: [U, L, Q] errors.
        choosing: [U, L, Q] errors by which configurations are chosen.
        rivals: [L, Q] configurations outside regime 1 that may be chosen.
        base: [L, Q] configurations of regime 1 that may be chosen.
        lrs: [L] learning rates.
        clusters: [U] cluster of each seed.
        margin: practical size of a gain.
        confidence: nominal coverage.
        generator: for the bootstrap.

    Returns:
        The gain; None where one side is empty.
    """
    rivals = rivals & np.isfinite(choosing).any(axis=0) & np.isfinite(error).any(axis=0)
    base = base & np.isfinite(choosing).any(axis=0) & np.isfinite(error).any(axis=0)
    if not rivals.any() or not base.any():
        return None
    flat, guide = error.reshape(len(error), -1), choosing.reshape(len(choosing), -1)
    sides = (np.flatnonzero(rivals), np.flatnonzero(base))
    by_seed = np.full(len(flat), np.nan)
    for cluster in np.unique(clusters):
        left_out = clusters == cluster
        if left_out.all():
            break
        rival, best = (_best(guide[~left_out], side) for side in sides)
        by_seed[left_out] = flat[left_out, best] - flat[left_out, rival]
    rival, best = (_best(guide, side) for side in sides)
    everyone = flat[:, best] - flat[:, rival]
    naive = float(everyone[np.isfinite(everyone)].mean()) if np.isfinite(everyone).any() else np.nan
    low, high = gap_interval(
        cluster_means(flat[:, sides[1]], clusters), cluster_means(flat[:, sides[0]], clusters), confidence, generator
    )
    known = by_seed[np.isfinite(by_seed)]
    value = float(known.mean()) if len(known) else naive  # a single cluster leaves nobody to choose for it
    seeds = len(known) or int(np.isfinite(everyone).sum())
    # The two are different statistics; the interval is stretched where it misses the estimate.
    estimate = Estimate(value, float(np.fmin(low, value)), float(np.fmax(high, value)), seeds, confidence)
    if np.isnan(low):
        estimate = Estimate(value, np.nan, np.nan, seeds, confidence)
    width = error.shape[2]
    return Gain(
        estimate=estimate,
        by_seed=by_seed,
        naive=naive,
        margin=margin,
        rival_lr=float(lrs[rival // width]),
        base_lr=float(lrs[best // width]),
        base_quality=int(best % width),
    )


def _best(error: Floats, allowed: Ints) -> int:
    """The allowed configuration with the lowest mean error over seeds."""
    values = error[:, allowed]
    known = np.isfinite(values)
    count = known.sum(axis=0)
    means = np.where(count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.inf)
    return int(allowed[means.argmin()])
